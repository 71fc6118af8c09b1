//! The probe's guest: a few hundred bytes that run in ring 0 in long mode.
//! They use instructions that every kernel uses and that a KVM which emulates
//! ring 0 stops at, and a loop that shows how fast it is.

use std::arch::global_asm;
use std::slice;

/// Written when a round of the loop begins and when it ends.
pub const LAP_PORT: u16 = 0x10;
/// Written when all instructions were executed.
pub const DONE_PORT: u16 = 0x11;
/// Times that the loop is run: the best counts, so that a busy host does not
/// look like a slow one.
pub const ROUNDS: u32 = 3;
/// Instructions in a round of the loop.
pub const LOOP_INSTRUCTIONS: u32 = 20_000;

/// What the guest is doing, by the number in its register r15.
const STEPS: [&str; 10] = [
    "its first instruction",
    "a loop",
    "lidt",
    "fwait",
    "popcnt",
    "clac",
    "cmpxchg16b",
    "xrstor",
    "int3",
    "iretq",
];

/// The step with the number that register r15 holds.
pub fn step(r15: u64) -> &'static str {
    usize::try_from(r15).ok().and_then(|n| STEPS.get(n)).copied().unwrap_or(STEPS[0])
}

// Runs at any address below 4 GiB with a stack; from 0xc000 it uses a page for
// XSAVE and one for the interrupt table. Each step is skipped where CPUID says
// that the CPU does not have it.
global_asm!(
    ".pushsection .rodata",
    ".balign 16",
    "probe_guest_begin:",
    "   mov r15d, 1",
    "   mov ebx, {rounds}",
    "2: out {lap}, al",
    "   mov ecx, {iterations}",
    "3: dec ecx",
    "   jnz 3b",
    "   out {lap}, al",
    "   dec ebx",
    "   jnz 2b",
    // An interrupt gate for vector 3.
    "   mov r15d, 2",
    "   lea rax, [rip + probe_guest_breakpoint]",
    "   mov edi, 0xd000",
    "   mov word ptr [rdi + 48], ax",
    "   mov word ptr [rdi + 50], 8",
    "   mov word ptr [rdi + 52], 0x8e00",
    "   shr eax, 16",
    "   mov word ptr [rdi + 54], ax",
    "   mov qword ptr [rdi + 56], 0",
    "   sub rsp, 16",
    "   mov word ptr [rsp], 63",
    "   mov qword ptr [rsp + 2], rdi",
    "   lidt [rsp]",
    "   mov r15d, 3",
    "   fninit",
    "   fwait",
    "   mov eax, 1",
    "   xor ecx, ecx",
    "   cpuid",
    "   mov r14d, ecx",
    "   mov r15d, 4",
    "   bt r14d, 23",
    "   jnc 4f",
    "   popcnt rax, rsp",
    "4: mov r15d, 5",
    "   mov eax, 7",
    "   xor ecx, ecx",
    "   cpuid",
    "   bt ebx, 20",
    "   jnc 5f",
    "   clac",
    "5: mov r15d, 6",
    "   bt r14d, 13",
    "   jnc 6f",
    "   cmpxchg16b [rsp]",
    "6: mov r15d, 7",
    "   bt r14d, 26",
    "   jnc 7f",
    "   mov rax, cr4",
    "   or eax, 0x40200",
    "   mov cr4, rax",
    "   mov eax, 1",
    "   xor edx, edx",
    "   mov edi, 0xc000",
    "   xrstor [rdi]",
    "7: mov r15d, 8",
    "   int3",
    "   out {done}, al",
    "   hlt",
    "probe_guest_breakpoint:",
    "   mov r15d, 9",
    "   iretq",
    "probe_guest_end:",
    ".popsection",
    rounds = const ROUNDS,
    iterations = const LOOP_INSTRUCTIONS / 2,
    lap = const LAP_PORT,
    done = const DONE_PORT,
);

unsafe extern "C" {
    static probe_guest_begin: u8;
    static probe_guest_end: u8;
}

pub fn code() -> &'static [u8] {
    let begin = &raw const probe_guest_begin;
    let len = (&raw const probe_guest_end) as usize - begin as usize;
    // SAFETY: both are labels of the text above, which is constant.
    unsafe { slice::from_raw_parts(begin, len) }
}
