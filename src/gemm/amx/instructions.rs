//! The instructions, which the standard library does not offer yet.

use std::arch::asm;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::tiles::{SIDE, TILE};
use crate::gemm::bfloat16::has_matrix_units;
use crate::gemm::kernel::Target;

/// Proof that the processor has these matrix units, and that the system lets this process use them.
#[derive(Clone, Copy)]
pub(in crate::gemm) struct Amx(());

impl Amx {
    pub(in crate::gemm) fn detect() -> Option<Self> {
        static PRESENT: OnceLock<bool> = OnceLock::new();
        PRESENT.get_or_init(|| is_present() && is_permitted()).then_some(Self(()))
    }
}

/// Whether the processor has the matrix units, and the vector instructions that fill tiles.
fn is_present() -> bool {
    let vectors =
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512bf16");
    vectors && has_matrix_units()
}

/// Asks the system for the tiles' 8 KiB of state: threads have no room for them unless their process wants it.
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this request reads and writes no memory of the process; systems that do not know it answer with an error.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

/// As `ldtilecfg` reads it.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// Loads a part of both strips of A.
macro_rules! first {
    ($part:literal) => {
        concat!("tileloadd tmm4, [{a0} + {row} + 1024*", $part, "]\n", "tileloadd tmm5, [{a1} + {row} + 1024*", $part, "]")
    };
}

/// Loads a part of both strips of B.
macro_rules! second {
    ($part:literal) => {
        concat!("tileloadd tmm6, [{b0} + {row} + 1024*", $part, "]\n", "tileloadd tmm7, [{b1} + {row} + 1024*", $part, "]")
    };
}

/// Adds the products of what is loaded.
macro_rules! products {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6
        tdpbf16ps tmm1, tmm4, tmm7
        tdpbf16ps tmm2, tmm5, tmm6
        tdpbf16ps tmm3, tmm5, tmm7"
    };
}

/// Instructions and operands, none of whose tiles outlive them.
macro_rules! asm_in_tiles {
    ($($argument:tt)*) => {
        asm!(
            $($argument)*
            out("tmm0") _,
            out("tmm1") _,
            out("tmm2") _,
            out("tmm3") _,
            out("tmm4") _,
            out("tmm5") _,
            out("tmm6") _,
            out("tmm7") _,
            options(nostack),
        )
    };
}

/// Sums along all tiles of strips, by the instructions for a tile with all its parts.
macro_rules! block {
    ($a:expr, $b:expr, $len:expr, $target:expr, $add:expr, $parts:literal, [$($instructions:expr),+]) => {{
        let [above, below] = [0, SIDE].map(|row| $target.at(row, 0));
        asm_in_tiles!(
            "test {add}, {add}",
            "jnz 3f",
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "jmp 2f",
            "3:",
            "tileloadd tmm0, [{above} + {c_row}]",
            "tileloadd tmm1, [{above} + {c_row} + {right}]",
            "tileloadd tmm2, [{below} + {c_row}]",
            "tileloadd tmm3, [{below} + {c_row} + {right}]",
            "2:",
            $($instructions,)+
            "add {a0}, {step}",
            "add {a1}, {step}",
            "add {b0}, {step}",
            "add {b1}, {step}",
            "dec {count}",
            "jnz 2b",
            "tilestored [{above} + {c_row}], tmm0",
            "tilestored [{above} + {c_row} + {right}], tmm1",
            "tilestored [{below} + {c_row}], tmm2",
            "tilestored [{below} + {c_row} + {right}], tmm3",
            a0 = inout(reg) $a[0].as_ptr() => _,
            a1 = inout(reg) $a[1].as_ptr() => _,
            b0 = inout(reg) $b[0].as_ptr() => _,
            b1 = inout(reg) $b[1].as_ptr() => _,
            count = inout(reg) $len / ($parts * TILE) => _,
            add = in(reg) usize::from($add),
            above = in(reg) above.first,
            below = in(reg) below.first,
            row = in(reg) 4 * SIDE,
            c_row = in(reg) 4 * $target.row_step,
            step = const 4 * $parts * TILE,
            right = const 4 * SIDE,
        );
    }};
}

/// All eight tiles of this thread are of [`SIDE`] rows of as many elements. Until this is dropped, its thread must not make another, whose
/// end would be that of both, nor wait for others by rayon, where it could come to do so.
pub(super) struct Configured {
    /// Other threads' tiles are their own.
    of_this_thread: PhantomData<*mut ()>,
}

impl Configured {
    pub(super) fn new(_: Amx) -> Self {
        let mut configuration = Configuration { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        configuration.row_bytes[..8].fill(4 * SIDE as u16);
        configuration.rows[..8].fill(SIDE as u8);
        // SAFETY: an `Amx` is proof that the instruction may be used; the configuration is one that every such processor knows.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack, preserves_flags)) };
        Self { of_this_thread: PhantomData }
    }

    /// Puts sums of products of two strips of A and two of B, of the same number of tiles, into a block of C, or adds them. Of numbers in
    /// three parts, six of nine products count: the others are below 2^-21 of two numbers' product, and 2^-24.7 on average.
    ///
    /// # Safety
    /// From the target on, there are 2 [`SIDE`] rows of as many columns, which nobody else reads or writes.
    #[inline(always)]
    pub(super) unsafe fn multiply<const PARTS: usize>(&self, [a, b]: [[&[f32]; 2]; 2], target: Target<'_>, add: bool) {
        let len = a[0].len();
        let step = PARTS * TILE;
        assert!(len > 0 && len.is_multiple_of(step) && [a[1], b[0], b[1]].iter().all(|strip| strip.len() == len));
        // SAFETY: tiles are configured as long as `self` is there. Each strip is read from its first to its last tile, as just checked,
        // and C is written as far as the caller says it may be.
        unsafe {
            match PARTS {
                1 => block!(a, b, len, target, add, 1, [first!(0), second!(0), products!()]),
                // The smallest first, in an order in which one factor's tiles stay.
                3 => block!(
                    a,
                    b,
                    len,
                    target,
                    add,
                    3,
                    [
                        first!(2),
                        second!(0),
                        products!(),
                        first!(1),
                        products!(),
                        second!(1),
                        products!(),
                        first!(0),
                        products!(),
                        second!(2),
                        products!(),
                        second!(0),
                        products!()
                    ]
                ),
                _ => unreachable!("numbers are of one part or three"),
            }
        }
    }
}

/// Multiply-adds of an instruction.
const MULTIPLY_ADDS: u64 = (SIDE * SIDE * 2 * SIDE) as u64;

impl Amx {
    /// Adds products of two tiles of A and two of B so many times, from tiles alone, and returns of how many multiply-adds.
    pub(in crate::gemm) fn multiply_in_tiles(self, rounds: u32) -> u64 {
        // The bits of pairs of numbers between 1 and 2, no two alike: processors are faster with zeros.
        let numbers: Vec<f32> =
            (0..4 * TILE as u32).map(|i| f32::from_bits(0x3f80_3f80 | i.wrapping_mul(2_654_435_769) & 0x007f_007f)).collect();
        let _configured = Configured::new(self);
        if rounds > 0 {
            // SAFETY: tiles are configured, and are loaded from four tiles' numbers.
            unsafe {
                asm_in_tiles!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "tileloadd tmm4, [{numbers} + {row}]",
                    "tileloadd tmm5, [{numbers} + {row} + 1024]",
                    "tileloadd tmm6, [{numbers} + {row} + 2048]",
                    "tileloadd tmm7, [{numbers} + {row} + 3072]",
                    "2:",
                    products!(),
                    "dec {rounds}",
                    "jnz 2b",
                    numbers = in(reg) numbers.as_ptr(),
                    row = in(reg) 4 * SIDE,
                    rounds = inout(reg) u64::from(rounds) => _,
                );
            }
        }
        4 * MULTIPLY_ADDS * u64::from(rounds)
    }
}

impl Drop for Configured {
    /// The system need not keep the tiles of a thread that has released them.
    fn drop(&mut self) {
        // SAFETY: there is a `Configured` only where there are these instructions.
        unsafe { asm!("tilerelease", options(nomem, nostack, preserves_flags)) };
    }
}
