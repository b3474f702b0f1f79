//! The part of `mcan` that needs no libtorch: file formats, text, data, data sets with their metrics, configuration.
//!
//! It is a package of its own, so that the compiler enforces the wall, and so that its tests build and run in seconds.

#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::disallowed_methods,
        clippy::expect_used,
        clippy::panic,
        clippy::print_stderr,
        clippy::print_stdout,
        clippy::unreachable
    )
)]

pub mod base;
pub mod config;
pub mod data;
pub mod datasets;
pub mod formats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
