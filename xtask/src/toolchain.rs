//! Finds what builds the kernel programs: a rustc with its library's source, and bpf-linker.
//!
//! Any rustc of the version the workspace asks for will do, stable too: `RUSTC_BOOTSTRAP=1` opens `-Z build-std`, and
//! the `core` that is built is the one that belongs to that compiler. Nothing here installs or changes anything.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{process, target_dir};

/// The LLVM that [`LINKER_VERSION`] is built for; a compiler with a newer one writes bitcode the linker cannot read.
const LLVM: u32 = 22;

/// Commands that run a compiler, and the directory of the one that the system brings.
const NIGHTLY: [&str; 4] = ["rustup", "run", "nightly", "rustc"];
const ACTIVE: [&str; 1] = ["rustc"];
const PINNED: [&str; 4] = ["rustup", "run", PINNED_TOOLCHAIN, "rustc"];
const SYSTEM: &str = "/usr";

/// The toolchain that setup gets where those that are there are too old, or too new for the linker.
pub const PINNED_TOOLCHAIN: &str = "1.95.0";

/// What a compiler must be.
pub const WANTED: &str = concat!(
    "Rust ",
    env!("CARGO_PKG_RUST_VERSION"),
    " or newer, with LLVM 22 or older"
);

/// The bpf-linker that `setup` installs. One of the same minor version found in `PATH` is used instead.
pub const LINKER_VERSION: &str = "0.10.3";

/// The features `setup` builds it with: LLVM from the libLLVM that rustup's toolchains carry.
pub const LINKER_FEATURES: [&str; 3] = ["--no-default-features", "--features", "rust-llvm-22"];

/// A compiler and a linker for the kernel programs.
#[derive(Debug)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: Linker,
}

/// A rustc with the source of its library.
#[derive(Debug)]
pub struct Compiler {
    /// The rustc.
    pub rustc: PathBuf,
    /// The cargo that runs it.
    pub cargo: PathBuf,
    release: String,
}

/// A bpf-linker.
#[derive(Debug)]
pub struct Linker {
    /// The executable.
    pub path: PathBuf,
    /// The directory of the libLLVM it loads, for `LD_LIBRARY_PATH`; `None` where no rustup toolchain has one.
    pub llvm: Option<PathBuf>,
    version: String,
}

impl Toolchain {
    /// The first of each that fits, or `None` when one is missing.
    pub fn find() -> Option<Self> {
        Some(Self {
            compiler: Compiler::find()?,
            linker: Linker::find()?,
        })
    }
}

impl Compiler {
    /// The first that fits of: rustup's nightly, the compiler that builds the rest, the pinned one, the system's own.
    pub fn find() -> Option<Self> {
        let [nightly, active, pinned] = [sysroot(&NIGHTLY), sysroot(&ACTIVE), sysroot(&PINNED)];
        [nightly, active, pinned, Some(SYSTEM.into())]
            .into_iter()
            .flatten()
            .filter(|sysroot| has_source(sysroot))
            .find_map(|sysroot| Self::in_sysroot(&sysroot))
    }

    /// The toolchain of rustup's that is there and would fit if it had the source of its library: `nightly`, or the
    /// empty name of the one in use.
    pub fn without_source() -> Option<&'static str> {
        let fits = |command: &[&str]| {
            let sysroot = sysroot(command)?;
            let compiler = Self::in_sysroot(&sysroot)?;
            (!has_source(&sysroot)).then_some(compiler)
        };
        [("nightly", NIGHTLY.as_slice()), ("", ACTIVE.as_slice())]
            .into_iter()
            .find_map(|(name, command)| fits(command).map(|_| name))
    }

    fn in_sysroot(sysroot: &Path) -> Option<Self> {
        let rustc = sysroot.join("bin/rustc");
        let version = process::output(Command::new(&rustc).arg("-vV"))?;
        let field = |name: &str| version.lines().find_map(|line| line.strip_prefix(name));
        let release = field("release: ")?.to_owned();
        let llvm = field("LLVM version: ")?;
        let old = numbers(&release) < numbers(env!("CARGO_PKG_RUST_VERSION"));
        if old || numbers(llvm).first() > Some(&LLVM) {
            return None;
        }
        // A toolchain of rustup's has a cargo of its own age. Beside the system's rustc there is none, or an old one.
        let sibling = sysroot.join("bin/cargo");
        let own = sysroot != Path::new(SYSTEM) && sibling.is_file();
        let cargo = if own {
            sibling
        } else {
            env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
        };
        Some(Self { rustc, cargo, release })
    }
}

impl Linker {
    /// One in `PATH`, or the one that setup put into `target/tools`.
    pub fn find() -> Option<Self> {
        let llvm = llvm_dir();
        [process::which("bpf-linker"), Some(Self::installed_path())]
            .into_iter()
            .flatten()
            .find_map(|path| {
                let answer = process::output(Command::new(&path).arg("--version"))?;
                let version = answer.strip_prefix("bpf-linker ")?.to_owned();
                let fits = numbers(&version).get(..2)? == numbers(LINKER_VERSION).get(..2)?;
                let llvm = llvm.clone();
                fits.then_some(Self { path, llvm, version })
            })
    }

    /// The root directory for `cargo install`.
    pub fn install_root() -> PathBuf {
        target_dir().join("tools")
    }

    fn installed_path() -> PathBuf {
        Self::install_root().join("bin/bpf-linker")
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rustc {} with rust-src ({})", self.release, self.rustc.display())
    }
}

impl fmt::Display for Linker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bpf-linker {} ({})", self.version, self.path.display())
    }
}

/// The `lib` directory of the first rustup toolchain whose libLLVM the linker can load.
fn llvm_dir() -> Option<PathBuf> {
    let has_llvm = |lib: &PathBuf| {
        let names = lib.read_dir().into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .any(|name| name.starts_with(&format!("libLLVM-{LLVM}")) || name.starts_with(&format!("libLLVM.so.{LLVM}")))
    };
    [sysroot(&ACTIVE), sysroot(&NIGHTLY), sysroot(&PINNED)]
        .into_iter()
        .flatten()
        .map(|sysroot| sysroot.join("lib"))
        .find(has_llvm)
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}

/// Where the rustc that a command runs has its files.
fn sysroot(rustc: &[&str]) -> Option<PathBuf> {
    let (program, arguments) = rustc.split_first()?;
    let mut command = Command::new(program);
    // Looking must not install.
    command.env("RUSTUP_AUTO_INSTALL", "0");
    process::output(command.args(arguments).args(["--print", "sysroot"])).map(PathBuf::from)
}

/// The leading numbers of a version: `1.97.0-nightly` is 1, 97, 0.
fn numbers(version: &str) -> Vec<u32> {
    let plain = version.split(['-', '+', ' ']).next().unwrap_or_default();
    plain.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(numbers("1.97.0-nightly"), [1, 97, 0]);
        assert_eq!(numbers("22.1.4"), [22, 1, 4]);
        assert!(numbers("1.100.0") > numbers("1.95"));
        assert!(numbers("1.94.1") < numbers("1.95"));
        assert!(numbers("1.95.0") >= numbers("1.95"));
    }
}
