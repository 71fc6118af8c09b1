//! The kvm engine as the shim sees it, with guests of a few instructions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod guest;
mod process;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::thread;

use process::{Engine, start_io, vhost_socket};
use sandbox_vm_spec::launch::{Report, VmEnd};

fn error(report: Report) -> String {
    match report {
        Report::Failed { error } => error,
        other => panic!("{other:?} and not a failure"),
    }
}

#[test]
fn a_guest_prints_and_resets() {
    let Some(mut engine) = Engine::boot(&guest::hello(), 1, vec![]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert_eq!(engine.process.news(), Report::Ended { end: VmEnd::Reset });
    assert_eq!(engine.console(), "hello!");
    assert!(engine.process.ended());
}

#[test]
fn stages_are_told_in_order() {
    let Some(mut engine) = Engine::boot(&guest::hello(), 1, vec![]) else { return };
    let (mut names, mut last) = (Vec::new(), 0);
    while let Some(report) = engine.process.report() {
        if let Report::Stage { name, micros } = report {
            assert!(micros >= last, "{name} at {micros}");
            last = micros;
            names.push(name);
        }
    }
    assert_eq!(names, ["jailed", "loaded", "machine", "devices", "running", "console"]);
}

#[test]
fn a_triple_fault_is_told_from_a_reset() {
    let Some(mut engine) = Engine::boot(&guest::crash(), 1, vec![]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert_eq!(engine.process.news(), Report::Ended { end: VmEnd::TripleFault });
}

#[test]
fn sixteen_vcpus_start_and_the_others_wait_for_the_first() {
    let Some(mut engine) = Engine::boot(&guest::hello(), 16, vec![]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert_eq!(engine.process.news(), Report::Ended { end: VmEnd::Reset });
    assert!(engine.process.ended());
}

#[test]
fn nothing_is_at_other_ports() {
    let Some(mut engine) = Engine::boot(&guest::stray(), 1, vec![]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert_eq!(engine.process.news(), Report::Ended { end: VmEnd::Reset });
    assert_eq!(engine.console(), "Y");
}

#[test]
fn a_guest_that_spins_ends_with_the_shim() {
    let Some(mut engine) = Engine::boot(&guest::spin(), 2, vec![]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert!(engine.process.hang_up());
}

#[test]
fn what_was_inherited_by_chance_is_closed() {
    let stranger = process::file(b"a secret");
    let path = fs::read_link(format!("/proc/self/fd/{}", stranger.as_raw_fd())).unwrap();
    let booted = Engine::boot_with(&guest::spin(), 1, vec![], Some(stranger));
    let Some(mut engine) = booted else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    let open = fs::read_dir(format!("/proc/{}/fd", engine.process.id())).unwrap();
    assert!(open.map(|entry| fs::read_link(entry.unwrap().path()).unwrap()).all(|one| one != path));
    assert!(engine.process.hang_up());
}

#[test]
fn a_real_backend_fills_a_buffer_and_is_reset() {
    let (io, rng) = start_io();
    let Some(mut engine) = Engine::boot(&guest::rng(), 1, vec![rng]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    assert_eq!(engine.process.news(), Report::Ended { end: VmEnd::Reset });
    assert_eq!(engine.console(), "R\nD");
    drop(io);
}

#[test]
fn a_backend_that_is_killed_ends_the_machine_by_name() {
    let (mut io, rng) = start_io();
    let Some(mut engine) = Engine::boot(&guest::spin(), 1, vec![rng]) else { return };
    assert_eq!(engine.process.news(), Report::Ready);
    io.kill();
    let error = error(engine.process.news());
    assert!(error.contains("backend of the rng device has exited"), "{error}");
    assert!(!engine.process.ended());
}

#[test]
fn a_backend_that_never_answers_ends_the_machine_by_name() {
    let (listener, rng) = vhost_socket();
    let Some(mut engine) = Engine::boot(&guest::spin(), 1, vec![rng]) else { return };
    let error = error(engine.process.news());
    assert!(error.contains("rng device has not answered GET_FEATURES"), "{error}");
    assert!(!engine.process.ended());
    drop(listener);
}

#[test]
fn a_backend_that_answers_nonsense_ends_the_machine_by_name() {
    let (listener, rng) = vhost_socket();
    let backend = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // SET_OWNER and GET_FEATURES, twelve bytes each.
        connection.read_exact(&mut [0; 24]).unwrap();
        connection.write_all(&[0xff; 64]).unwrap();
        connection
    });
    let Some(mut engine) = Engine::boot(&guest::spin(), 1, vec![rng]) else { return };
    let error = error(engine.process.news());
    assert!(error.contains("GET_FEATURES to the backend of the rng device failed"), "{error}");
    backend.join().unwrap();
}

#[test]
fn a_kernel_that_is_none_is_named() {
    let Some(mut engine) = Engine::boot(b"#!/bin/sh", 1, vec![]) else { return };
    let error = error(engine.process.news());
    assert!(error.contains("not an uncompressed x86-64 vmlinux"), "{error}");
    assert!(!engine.process.ended());
}

#[test]
fn a_machine_out_of_bounds_is_refused() {
    let Some(mut engine) = Engine::boot(&guest::hello(), 17, vec![]) else { return };
    let error = error(engine.process.news());
    assert!(error.contains("17 vCPUs"), "{error}");
}
