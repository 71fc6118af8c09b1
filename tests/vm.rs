//! Every feature test. `SANDBOX_TEST_RUNTIME=io.containerd.runc.v2` runs those
//! that hold for any runtime against runc: what they ask for is then known to
//! be what users of runc get.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod bootstrap;
mod container;
mod crash;
mod errors;
mod figures;
mod jail;
mod lifecycle;
mod limits;
mod names;
mod process;
mod share;
mod stdio;

fn main() -> std::process::ExitCode {
    sandbox_tests::main(&[
        stdio::TESTS,
        process::TESTS,
        container::TESTS,
        limits::TESTS,
        lifecycle::TESTS,
        crash::TESTS,
        bootstrap::TESTS,
        errors::TESTS,
        names::TESTS,
        jail::TESTS,
        share::TESTS,
        figures::TESTS,
    ])
}
