//! Guests of a few instructions, as ELF files: they run on any KVM, also on
//! one that emulates ring 0 and cannot run Linux.

use std::arch::global_asm;
use std::slice;

/// Where the guests begin.
const ENTRY: u64 = 0x100_0000;

// 0x3f8 is the serial port; 0xfe to port 0x64 resets the machine.
global_asm!(
    ".pushsection .rodata",
    "kvm_guest_hello:",
    "   mov edx, 0x3f8",
    "   lea rsi, [rip + 4f]",
    "   mov ecx, 6",
    "2: mov al, [rsi]",
    "   out dx, al",
    "   inc rsi",
    "   dec ecx",
    "   jnz 2b",
    "3: mov al, 0xfe",
    "   out 0x64, al",
    "   jmp 3b",
    "4: .ascii \"hello!\"",
    "kvm_guest_hello_end:",
    // An access that nothing maps, and no handler for the fault.
    "kvm_guest_crash:",
    "   mov rax, -16",
    "   mov [rax], rax",
    "kvm_guest_crash_end:",
    "kvm_guest_spin:",
    "   jmp kvm_guest_spin",
    "kvm_guest_spin_end:",
    // Ports and addresses where nothing is read as ones.
    "kvm_guest_stray:",
    "   in al, 0x80",
    "   mov bl, al",
    "   out 0x80, al",
    "   mov edx, 0xcf8",
    "   in eax, dx",
    "   and al, bl",
    "   mov edi, 0x40000",
    "   cmp al, 0xff",
    "   jne 5f",
    "   mov edx, 0x3f8",
    "   mov al, 'Y'",
    "   out dx, al",
    "5: mov al, 0xfe",
    "   out 0x64, al",
    "   jmp 5b",
    "kvm_guest_stray_end:",
    ".popsection",
);

// Drives the rng device in slot 0: one buffer of 64 bytes, without interrupts.
// Prints R and a newline when it was filled with something, D when the device
// has been reset, and resets the machine.
global_asm!(
    ".pushsection .rodata",
    "kvm_guest_rng:",
    // Maps the device's page: page directory pointer 3, directory entry 128.
    "   mov edi, 0xa018",
    "   mov qword ptr [rdi], 0xd003",
    "   mov edi, 0xd400",
    "   mov eax, 0xd0000083",
    "   mov [rdi], rax",
    "   mov rax, cr3",
    "   mov cr3, rax",
    "   mov edi, 0xd0000000",
    "   mov dword ptr [rdi + 0x70], 1",
    "   mov dword ptr [rdi + 0x70], 3",
    "   mov dword ptr [rdi + 0x24], 1",
    "   mov dword ptr [rdi + 0x20], 1",
    "   mov dword ptr [rdi + 0x70], 11",
    "   mov dword ptr [rdi + 0x30], 0",
    "   mov dword ptr [rdi + 0x38], 8",
    "   mov dword ptr [rdi + 0x80], 0x200000",
    "   mov dword ptr [rdi + 0x90], 0x201000",
    "   mov dword ptr [rdi + 0xa0], 0x202000",
    "   mov dword ptr [rdi + 0x44], 1",
    "   mov dword ptr [rdi + 0x70], 15",
    // Descriptor 0: 64 bytes at 0x203000 for the device to write.
    "   mov esi, 0x200000",
    "   mov dword ptr [rsi], 0x203000",
    "   mov dword ptr [rsi + 8], 64",
    "   mov dword ptr [rsi + 12], 2",
    "   mov dword ptr [rsi + 0x1000], 0x10000",
    "   mov dword ptr [rdi + 0x50], 0",
    "2: cmp word ptr [rsi + 0x2002], 1",
    "   jne 2b",
    "   cmp dword ptr [rsi + 0x2008], 64",
    "   jne 7f",
    "   mov ecx, 8",
    "   xor eax, eax",
    "   mov ebx, 0x203000",
    "3: or rax, [rbx]",
    "   add ebx, 8",
    "   dec ecx",
    "   jnz 3b",
    "   test rax, rax",
    "   jz 7f",
    "   mov edx, 0x3f8",
    "   mov al, 'R'",
    "   out dx, al",
    "   mov al, 10",
    "   out dx, al",
    "   mov dword ptr [rdi + 0x70], 0",
    "6: cmp dword ptr [rdi + 0x70], 0",
    "   jne 6b",
    "   mov al, 'D'",
    "   out dx, al",
    "7: mov al, 0xfe",
    "   out 0x64, al",
    "   jmp 7b",
    "kvm_guest_rng_end:",
    ".popsection",
);

macro_rules! guest {
    ($(#[$doc:meta])* $name:ident, $begin:ident, $end:ident) => {
        $(#[$doc])*
        pub fn $name() -> Vec<u8> {
            unsafe extern "C" {
                static $begin: u8;
                static $end: u8;
            }
            let begin = &raw const $begin;
            let len = (&raw const $end) as usize - begin as usize;
            // SAFETY: both are labels of the text above, which is constant.
            elf(unsafe { slice::from_raw_parts(begin, len) })
        }
    };
}

guest!(
    /// Prints "hello!" without a newline and resets.
    hello, kvm_guest_hello, kvm_guest_hello_end
);
guest!(
    /// Ends in a triple fault.
    crash, kvm_guest_crash, kvm_guest_crash_end
);
guest!(
    /// Never ends and never exits.
    spin, kvm_guest_spin, kvm_guest_spin_end
);
guest!(
    /// Uses ports where nothing is; prints Y when they read as ones.
    stray, kvm_guest_stray, kvm_guest_stray_end
);
guest!(
    /// Drives an rng device in slot 0.
    rng, kvm_guest_rng, kvm_guest_rng_end
);

/// An ELF file that loads `code` at [`ENTRY`] and begins there.
fn elf(code: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    // An executable for x86-64; entry, program headers, no section headers.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // One segment to load, read and execute.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = code.len() as u64;
    file.extend([HEADERS, ENTRY, ENTRY, len, len, 4096].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}
