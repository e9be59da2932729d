//! How big the programs are, with room to grow by half before someone has to look.

use crate::world::world;

/// Of 9 800 in the largest.
const INSTRUCTIONS: u32 = 14_700;
/// Of 80 000, where the verifier takes a million at the most.
const VERIFIED: u32 = 120_000;

#[test]
fn the_programs_are_as_small_as_they_were() {
    for figures in world().datapath.figures().unwrap() {
        let instructions = figures.translated / 8;
        println!(
            "{}: {instructions} instructions, {} bytes of machine code, {} instructions verified",
            figures.program, figures.jited, figures.verified
        );
        assert!(
            instructions <= INSTRUCTIONS && figures.verified <= VERIFIED,
            "{figures:?}"
        );
    }
}
