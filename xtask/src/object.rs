//! Refuses a BPF object that the kernel would refuse, while the reason can still be named.
//!
//! In comes the linked object. The verifier's own words for the first two mistakes ("last insn is not an exit or jmp",
//! "failed to find kernel BTF type ID") lead nowhere near their cause.

use anyhow::{Context, Result, bail};
use object::{
    Endianness,
    elf::FileHeader64,
    read::elf::{FileHeader, Sym},
};

use crate::stack;

/// Fails on a panic that survived optimisation, on a call to a function that is not in the object, and on calls that take more
/// stack than there is.
pub fn check(bytes: &[u8]) -> Result<()> {
    let header = FileHeader64::<Endianness>::parse(bytes).context("not an ELF object")?;
    let endian = header.endian()?;
    let symbols = header
        .sections(endian, bytes)?
        .symbols(endian, bytes, object::elf::SHT_SYMTAB)?;
    let mut names = Vec::new();
    for symbol in symbols.iter() {
        let name = String::from_utf8_lossy(symbol.name(endian, symbols.strings())?);
        names.push((name, symbol.is_undefined(endian)));
    }
    if let Some((name, _)) = names.iter().find(|(name, _)| name.contains("panicking")) {
        bail!(
            "a panic survived: {name}. Look for indexing, `unwrap`, `/` and `%` that the compiler cannot prove; \
             use `get`, `checked_rem` and friends"
        );
    }
    if let Some((name, _)) = names.iter().find(|(name, undefined)| *undefined && !name.is_empty()) {
        bail!("{name} is called but not in the object: kernel programs have no library to link it from");
    }
    stack::check(bytes)
}
