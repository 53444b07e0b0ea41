//! The table of ops. Adding one takes its file, its shader and its line here.

use crate::op::{Erased, ErasedOp};

/// Declares the modules and lists the ops that tests and benches walk.
macro_rules! ops {
    ($($module:ident::$op:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// Every op of the crate.
        pub static TABLE: &[&dyn ErasedOp] = &[$(&Erased::<$module::$op>::NEW),*];
    };
}

ops! {
    matmul::Matmul,
    normalize::Normalize,
    normalize_backward::NormalizeBackward,
    gather::Gather,
    add_bias::AddBias,
    column_sum::ColumnSum,
    adamw::AdamW,
}
