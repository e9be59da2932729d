//! How big the programs are, with room to grow by half before someone has to look.

use svcproxy::datapath::links::Hook;

use crate::world::world;

#[test]
fn the_programs_are_as_small_as_they_were() {
    for figures in world().datapath.figures().unwrap() {
        // instructions of 8 bytes, instructions the verifier walks
        let (translated, verified) = match figures.hook {
            Hook::Xdp | Hook::TcIn => (4_000, 60_000),
            Hook::TcOut => (4_000, 60_000),
        };
        println!(
            "{}: {} instructions, {} bytes of machine code, {} instructions verified",
            figures.hook,
            figures.translated / 8,
            figures.jited,
            figures.verified
        );
        assert!(figures.translated / 8 <= translated, "{figures:?}");
        assert!(figures.verified <= verified, "{figures:?}");
    }
}
