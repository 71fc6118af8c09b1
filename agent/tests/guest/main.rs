//! The agent in a real guest. One guest serves all cases at once, each with a
//! container of its own; cases that end the guest have one of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]
#![allow(missing_docs)]

mod exec;
mod lifecycle;
mod listeners;
mod network;
mod program;
mod protocol;
mod rootfs;
mod streams;
mod terminal;
mod vm;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use vm::Vm;

type Case = (&'static str, fn(Arc<Vm>) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// A case that shares the guest: its name, and what it does with its id.
#[macro_export]
macro_rules! case {
    ($module:ident :: $name:ident) => {
        (concat!(stringify!($module), "::", stringify!($name)), |vm| {
            Box::pin(async move { $crate::$module::$name(&vm).await })
        })
    };
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == program::ARGUMENT) {
        return program::run();
    }
    // Mounts of the tests are theirs alone.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).unwrap();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run())
}

async fn run() -> ExitCode {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-')).unwrap_or_default();
    let dir = tempfile::tempdir().unwrap();
    let vm = Vm::boot(dir.path()).await;
    protocol::before_the_handshake(&vm).await;
    let hello = vm.handshake().await;
    println!("guest: {hello:?}");
    protocol::after_the_handshake(&vm).await;
    let vm = Arc::new(vm);
    let mut failed = 0;
    let mut passed = 0;
    let all = [
        exec::CASES,
        lifecycle::CASES,
        listeners::CASES,
        network::CASES,
        rootfs::CASES,
        streams::CASES,
        terminal::CASES,
    ];
    let running: Vec<_> = all
        .concat()
        .into_iter()
        .filter(|(name, _)| name.contains(&filter))
        .map(|(name, case)| (name, tokio::spawn(case(vm.clone()))))
        .collect();
    for (name, case) in running {
        match tokio::time::timeout(vm::PATIENCE, case).await {
            Ok(Ok(())) => {
                passed += 1;
                println!("ok     {name}");
            }
            outcome => {
                failed += 1;
                println!("FAILED {name}: {outcome:?}");
            }
        }
    }
    if filter.is_empty() {
        lifecycle::nothing_is_left(&vm).await;
    }
    println!("console:\n{}", vm.console());
    // A case that hangs keeps its handle, and has failed already.
    if let Some(vm) = Arc::into_inner(vm) {
        protocol::ends(vm).await;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
