//! `svcproxy explain`: what would happen to a connection, and why.
//!
//! The verdict, the endpoint and the source address are those of the real program, run on the connection's first packet
//! in private maps (`datapath/rehearsal.rs`). The set of endpoints is read from the same maps. With manifests, both are
//! held against the rules (`conformance`); a difference is an error, never an answer.

#![forbid(unsafe_code)]

mod answer;
mod endpoints;
mod names;
mod packet;
mod paint;
mod question;
mod scene;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::json;

pub use self::{
    answer::{Answer, Disagreement},
    question::{Destination, Source},
};
use self::{paint::Paint, question::Question, scene::Scene};
use super::{ExplainArgs, ExplainOutput};

/// Answers one question, or a file of them. Exits 1 when there is an answer missing.
///
/// # Errors
///
/// When the manifests or the running datapath cannot be read, when the kernel refuses to run the program, and when the
/// program and the rules disagree.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let stdin = Path::new("-");
    if args.batch.as_deref() == Some(stdin) && args.input.filenames.iter().any(|file| file == stdin) {
        bail!("both -f and --batch read standard input: name a file for one of them");
    }
    let question = match (args.src, args.dst) {
        (Some(src), Some(dst)) => Some(Question::new(src, dst).map_err(|reason| anyhow!(reason))?),
        _ => None,
    };
    let Some(mut scene) = Scene::set(args)? else {
        return Ok(ExitCode::FAILURE);
    };
    if let Some(file) = &args.batch {
        return batch(&mut scene, file);
    }
    let question = question.context("write SRC[:PORT] DST:PORT[/PROTOCOL], or --batch FILE")?;
    let explained = scene.explain(question)?;
    match args.output {
        ExplainOutput::Json => println!("{}", serde_json::to_string(&explained.answer)?),
        ExplainOutput::Text => print!("{}", text::render(&explained, Paint::for_stdout())),
    }
    Ok(ExitCode::SUCCESS)
}

/// Answers every line of a file with a line of JSON.
fn batch(scene: &mut Scene, file: &Path) -> anyhow::Result<ExitCode> {
    let lines: Box<dyn BufRead> = match file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(BufReader::new(
            File::open(file).with_context(|| format!("cannot read {}", file.display()))?,
        )),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut complete = true;
    for (index, line) in lines.lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", file.display()))?;
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let answered = text
            .parse()
            .map_err(|reason: String| anyhow!(reason))
            .and_then(|question| Ok(serde_json::to_string(&scene.explain(question)?.answer)?));
        match answered {
            Ok(answer) => writeln!(out, "{answer}")?,
            Err(error) => {
                complete = false;
                let error = format!("line {}: {error:#}", index + 1);
                eprintln!("{}: {error}", file.display());
                writeln!(out, "{}", json!({ "error": error }))?;
            }
        }
    }
    out.flush()?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
