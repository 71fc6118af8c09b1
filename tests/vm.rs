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
mod ctl;
mod errors;
mod exec;
mod figures;
mod jail;
mod lifecycle;
mod limits;
mod names;
mod network;
mod policy;
mod process;
mod resources;
mod rootfs;
mod sandbox;
mod share;
mod stdio;

fn main() -> std::process::ExitCode {
    // What takes longest begins first.
    sandbox_tests::main(&[
        lifecycle::TESTS,
        stdio::TESTS,
        process::TESTS,
        exec::TESTS,
        exec::order::TESTS,
        container::TESTS,
        limits::TESTS,
        resources::TESTS,
        sandbox::TESTS,
        sandbox::restart::TESTS,
        crash::TESTS,
        crash::points::TESTS,
        bootstrap::TESTS,
        errors::TESTS,
        names::TESTS,
        jail::TESTS,
        share::TESTS,
        rootfs::TESTS,
        network::outbound::TESTS,
        network::errors::TESTS,
        network::inbound::TESTS,
        network::interface::TESTS,
        network::names::TESTS,
        network::pod::TESTS,
        network::made::TESTS,
        network::load::TESTS,
        network::cni::TESTS,
        policy::reach::TESTS,
        policy::frames::TESTS,
        policy::files::TESTS,
        policy::node::TESTS,
        policy::live::TESTS,
        policy::seen::TESTS,
        ctl::TESTS,
        figures::TESTS,
    ])
}
