//! What users of Docker and nerdctl do all day, with sandboxes.
//!
//! `make test-clients TESTS=nerdctl::` runs the cases of one client. With
//! `SANDBOX_TEST_RUNTIME=io.containerd.runc.v2` the cases run on runc, which
//! proves that they ask for what users get there; with cgroup v1 on the host
//! `limits_and_update` fails there, since it reads files of cgroup v2.
//! `CLIENTS_SUITE` is the Debian release that provides Docker and containerd.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod cases;
mod client;
mod installer;

fn main() -> std::process::ExitCode {
    let suite = std::env::var("CLIENTS_SUITE").unwrap_or_else(|_| "trixie".to_owned());
    // Since Debian 13 the static tini is in the package of the other one.
    let tini = if suite == "trixie" { "tini" } else { "tini-static" };
    let docker = ["docker.io", "docker-cli", "docker-buildx", "docker-compose"];
    let debian = [&["tests/debian", &suite, "containerd", tini], &docker[..]].concat();
    sandbox_tests::find_programs(&[&debian, &["tests/nerdctl"]]);
    sandbox_tests::main(&[cases::docker::TESTS, cases::nerdctl::TESTS])
}
