//! Embeds the programs of the bench: builds them and leaves the object as `$OUT_DIR/bench.bpf.o`.

use std::{env, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let out_dir = env::var_os("OUT_DIR").unwrap_or_default();
    match xtask::ebpf::embed(xtask::ebpf::BENCH, &Path::new(&out_dir).join("bench.bpf.o")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}
