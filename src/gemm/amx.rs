//! Products of bfloat16 numbers on the matrix units of x86 processors (AMX, since Intel's Sapphire Rapids): an instruction adds the products of
//! two tiles, 32 for each of 16 x 16 sums. See the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 18.

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[expect(unsafe_code, reason = "instructions that the standard library does not offer")]
mod instructions;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod product;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[expect(unsafe_code, reason = "vectors are read from and written to slices")]
mod tiles;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) use instructions::Amx;

/// Products of numbers in three parts that count, as [`Amx::multiply`] makes them.
pub(super) const PRODUCTS: u64 = 6;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub(super) use elsewhere::Amx;

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod elsewhere {
    use std::convert::Infallible;

    use crate::gemm::Matrix;
    use crate::gemm::kernel::Target;

    /// No other processor's matrix units are used, and no other system's way of giving leave to use them is known.
    #[derive(Clone, Copy)]
    pub(in crate::gemm) struct Amx(Infallible);

    impl Amx {
        pub(in crate::gemm) fn detect() -> Option<Self> {
            None
        }

        pub(in crate::gemm) fn multiply<const PARTS: usize>(
            self,
            _: [usize; 3],
            _: Matrix<'_>,
            _: Matrix<'_>,
            _: Target<'_>,
            _: bool,
        ) {
            match self.0 {}
        }

        pub(in crate::gemm) fn multiply_in_tiles(self, _: u32) -> u64 {
            match self.0 {}
        }
    }
}
