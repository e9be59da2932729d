//! Plans and diffs against tables of cases and against properties.

mod builder;
mod golden;
mod interpret;
mod properties;
mod replay;
mod strategy;
mod ways;
