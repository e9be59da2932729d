//! How much stack the calls of a BPF object take, as kernels before 6.9 count it: each function's frame in units of 32
//! bytes, where later ones take 16. The machine that builds the object may well load what an older one refuses.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
    read::elf::{ElfFile64, ElfSection64, ElfSymbol64},
};

/// What a chain of calls may take, in bytes (`MAX_BPF_STACK`, include/linux/filter.h).
const LIMIT: u32 = 512;
/// What a frame is counted in (`check_max_stack_depth_subprog`, kernel/bpf/verifier.c).
const UNIT: u32 = 32;
/// Bytes of an instruction (`struct bpf_insn`).
const INSTRUCTION: usize = 8;

/// Where a function begins: its section, and the offset in there.
type Place = (SectionIndex, u64);

/// A function of the object.
struct Function {
    name: String,
    /// Bytes of its own frame.
    frame: u32,
    calls: Vec<Place>,
}

/// Fails when a chain of calls takes more than the kernel allows.
pub(crate) fn check(bytes: &[u8]) -> Result<()> {
    let functions = functions(bytes)?;
    for place in functions.keys() {
        let (stack, chain) = deepest(&functions, *place, 0)?;
        if stack > LIMIT {
            bail!(
                "{} take {stack} bytes of stack; before Linux 6.9 {LIMIT} are allowed",
                chain.join(" > ")
            );
        }
    }
    Ok(())
}

/// The functions of an object.
fn functions(bytes: &[u8]) -> Result<HashMap<Place, Function>> {
    let file: ElfFile64<'_> = ElfFile64::parse(bytes).context("not an ELF object")?;
    let mut functions = HashMap::new();
    let is_function = |symbol: &ElfSymbol64<'_, '_>| symbol.kind() == SymbolKind::Text && symbol.size() > 0;
    for symbol in file.symbols().filter(is_function) {
        let index = symbol.section_index().context("a function without a section")?;
        let section = file.section_by_index(index)?;
        let code = section.data_range(symbol.address(), symbol.size())?;
        let code = code.context("a function beyond the end of its section")?;
        let calls = instructions(code)
            .enumerate()
            .filter(|(_, instruction)| instruction.calls_function());
        let calls = calls.map(|(number, call)| {
            let at = symbol.address() + (number * INSTRUCTION) as u64;
            called(&file, &section, at, call.immediate)
        });
        let function = Function {
            name: symbol.name()?.to_owned(),
            frame: frame(code),
            calls: calls.collect::<Result<_>>()?,
        };
        functions.insert((index, symbol.address()), function);
    }
    ensure!(!functions.is_empty(), "an object without functions");
    Ok(functions)
}

/// The function that a call `at` an offset of a section is of.
fn called(file: &ElfFile64<'_>, section: &ElfSection64<'_, '_>, at: u64, immediate: i32) -> Result<Place> {
    let next = (i64::from(immediate) + 1) * INSTRUCTION as i64;
    // The linker leaves a call into another section to a relocation.
    let relocation = section.relocations().find(|(offset, _)| *offset == at);
    let Some(RelocationTarget::Symbol(target)) = relocation.map(|(_, relocation)| relocation.target()) else {
        return Ok((section.index(), at.wrapping_add_signed(next)));
    };
    let target = file.symbol_by_index(target)?;
    let base = target.section_index().context("a call of what is not in the object")?;
    Ok(match target.kind() {
        SymbolKind::Section => (base, next as u64),
        _ => (base, target.address()),
    })
}

/// The chain of calls from a function on that takes the most stack: how much with what is taken `above` it, and its
/// functions. It ends where there is no room any more, so a function may well call itself.
fn deepest(functions: &HashMap<Place, Function>, place: Place, above: u32) -> Result<(u32, Vec<String>)> {
    let function = functions.get(&place).context("a call to where no function begins")?;
    let stack = above + function.frame.max(1).next_multiple_of(UNIT);
    let mut most = (stack, Vec::new());
    for call in function.calls.iter().filter(|_| stack <= LIMIT) {
        let below = deepest(functions, *call, stack)?;
        if below.0 > most.0 {
            most = below;
        }
    }
    most.1.insert(0, format!("{} ({})", function.name, function.frame));
    Ok(most)
}

/// An instruction (Documentation/bpf/standardization/instruction-set.rst).
struct Instruction {
    opcode: u8,
    dst: usize,
    src: usize,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    fn new(&[opcode, registers, o0, o1, i0, i1, i2, i3]: &[u8; INSTRUCTION]) -> Self {
        Self {
            opcode,
            dst: usize::from(registers & 0xf),
            src: usize::from(registers >> 4),
            offset: i16::from_le_bytes([o0, o1]),
            immediate: i32::from_le_bytes([i0, i1, i2, i3]),
        }
    }

    /// Whether it calls a function of the object, and no helper.
    fn calls_function(&self) -> bool {
        const CALL: u8 = 0x85;
        const PSEUDO_CALL: usize = 1;
        self.opcode == CALL && self.src == PSEUDO_CALL
    }
}

/// Those of a function.
fn instructions(code: &[u8]) -> impl Iterator<Item = Instruction> {
    code.as_chunks().0.iter().map(Instruction::new)
}

/// The bytes of stack that a function's code reaches: the lowest address below the frame pointer that it loads from, stores
/// to, or hands on.
fn frame(code: &[u8]) -> u32 {
    const FRAME_POINTER: usize = 10;
    const REGISTERS: usize = 16;
    const MOVE: u8 = 0xbf;
    const ADD_IMMEDIATE: u8 = 0x07;
    const CLASS: u8 = 0x07;
    const LOAD: u8 = 1;
    const STORE: u8 = 2;
    const STORE_REGISTER: u8 = 3;
    const ALU: u8 = 4;
    const ALU_64: u8 = 7;

    // Where each register points to, from the frame pointer on.
    let mut pointers = [None; REGISTERS];
    pointers[FRAME_POINTER] = Some(0);
    let mut lowest = 0;
    for instruction in instructions(code) {
        let Instruction {
            opcode,
            dst,
            src,
            offset,
            immediate,
        } = instruction;
        let at = |register: usize| pointers[register].map(|pointer: i32| pointer + i32::from(offset));
        let (reached, written) = match (opcode, opcode & CLASS) {
            (_, STORE | STORE_REGISTER) => (at(dst), pointers[dst]),
            (_, LOAD) => (at(src), None),
            (MOVE, _) => (pointers[src], pointers[src]),
            (ADD_IMMEDIATE, _) => {
                let sum = pointers[dst].map(|pointer| pointer + immediate);
                (sum, sum)
            }
            (_, ALU | ALU_64) => (None, None),
            _ => (None, pointers[dst]),
        };
        lowest = reached.map_or(lowest, |reached| lowest.min(reached));
        pointers[dst] = written;
    }
    lowest.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reaches_as_far_as_its_code() {
        let reaches = |code: &[[u8; INSTRUCTION]], bytes| assert_eq!(frame(code.as_flattened()), bytes);
        let [store, load] = [
            [0x7b, 0x1a, 0xf8, 0xff, 0, 0, 0, 0],
            [0x79, 0xa1, 0xf0, 0xff, 0, 0, 0, 0],
        ];
        let copy = [0xbf, 0xa2, 0, 0, 0, 0, 0, 0]; // r2 = r10
        let add = [0x07, 0x02, 0, 0, 0xd0, 0xff, 0xff, 0xff]; // r2 += -48
        let number = [0xb7, 0x02, 0, 0, 0, 0, 0, 0]; // r2 = 0
        let through = [0x7b, 0x12, 0xf8, 0xff, 0, 0, 0, 0]; // *(r2 - 8) = r1
        reaches(&[], 0);
        reaches(&[store], 8);
        reaches(&[store, load], 16);
        reaches(&[copy, add], 48);
        reaches(&[copy, add, through], 56);
        reaches(&[copy, number, add, through], 0);
    }

    #[test]
    fn the_deepest_chain_is_the_one_that_takes_the_most() {
        let place = |number| (SectionIndex(1), number);
        let function = |(number, frame, calls): (u64, u32, &[u64])| {
            let function = Function {
                name: format!("f{number}"),
                frame,
                calls: calls.iter().copied().map(place).collect(),
            };
            (place(number), function)
        };
        let functions = [(0, 33, &[1, 2][..]), (1, 64, &[]), (2, 8, &[3]), (3, 40, &[])];
        let functions = HashMap::from(functions.map(function));
        let (stack, chain) = deepest(&functions, place(0), 0).unwrap();
        assert_eq!(
            (stack, chain.join(" ")),
            (64 + 32 + 64, "f0 (33) f2 (8) f3 (40)".into())
        );
    }

    #[test]
    fn a_function_that_calls_itself_takes_more_than_there_is() {
        let function = Function {
            name: "f".into(),
            frame: 8,
            calls: vec![(SectionIndex(1), 0)],
        };
        let place = (SectionIndex(1), 0);
        let (stack, chain) = deepest(&HashMap::from([(place, function)]), place, 0).unwrap();
        assert_eq!((stack, chain.len()), (LIMIT + UNIT, 17));
    }
}
