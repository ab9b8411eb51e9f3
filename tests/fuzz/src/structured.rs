//! Structured inputs, read from bytes.
//!
//! The derive macro of `arbitrary` is not used: it needs a feature of that crate. wasmtime depends on the crate as
//! well, so it would be compiled with other features for the tests than for the wheel.

use arbitrary::{Arbitrary, Unstructured};

/// Reads an input, or returns `None` if the bytes are too few or invalid.
pub(crate) fn read<'a, T: Arbitrary<'a>>(data: &'a [u8]) -> Option<T> {
    T::arbitrary_take_rest(Unstructured::new(data)).ok()
}

/// Implements `Arbitrary` for a struct: reads one field after the other, and the last one from the rest.
macro_rules! structured {
    ($name:ident { $($field:ident),*; $last:ident }) => {
        impl<'a> ::arbitrary::Arbitrary<'a> for $name {
            fn arbitrary(source: &mut ::arbitrary::Unstructured<'a>) -> ::arbitrary::Result<Self> {
                Ok(Self { $($field: source.arbitrary()?,)* $last: source.arbitrary()? })
            }

            fn arbitrary_take_rest(mut source: ::arbitrary::Unstructured<'a>) -> ::arbitrary::Result<Self> {
                Ok(Self {
                    $($field: source.arbitrary()?,)*
                    $last: ::arbitrary::Arbitrary::arbitrary_take_rest(source)?,
                })
            }
        }
    };
}
pub(crate) use structured;
