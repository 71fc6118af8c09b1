//! The stack on a tap device: a network namespace whose only way out is a
//! userspace NAT with a policy.
//!
//! The namespace given by `--netns` gets an interface; what it sends goes out
//! of the namespace that this program runs in.
#![allow(clippy::print_stdout)]

mod capture;
mod failure;
mod options;
mod tap;

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Instant as Clock, SystemTime, UNIX_EPOCH};

use clap::Parser;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sandbox_netstack::host::KernelNet;
use sandbox_netstack::policy::Policy;
use sandbox_netstack::port::Capabilities;
use sandbox_netstack::stack::{Config, RINGS, Stack};
use sandbox_netstack::watch::{Sink, Watch};
use smoltcp::time::{Duration, Instant};

use capture::FileCapture;
use failure::Failure;
use options::Options;
use tap::Tap;

/// How often the audit's sums are written.
const SECOND: Duration = Duration::from_secs(1);

/// Flows after whose end free memory is given back.
const TRIM: u64 = 512;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(never) => match never {},
        Err(failure) => {
            eprintln!("netstack-tap: {}", failure.told());
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Infallible, Failure> {
    sandbox_mapped::map_large_blocks();
    let capabilities =
        Capabilities { checksum: !options.no_offload, segments: !options.no_offload };
    let commands = options.interface_commands();
    let mut tap = Tap::create(&options.netns, &options.name, capabilities, move || {
        commands.iter().try_for_each(|arguments| ip(arguments))
    })?;
    let host =
        KernelNet::new().map_err(|errno| Failure::Kernel("make an epoll instance", errno))?;
    let (node, pod) = options.layers()?;
    let policy = Policy::new(&node, &pod, options.place(), 1).into();
    let started = Clock::now();
    let config = Config {
        link: options.link(),
        mac: options::GATEWAY_MAC,
        gateway4: options.gateway4,
        gateway6: options::GATEWAY6,
        pod: options.publish_at.clone(),
        mtu: options.mtu,
        capabilities,
        rings: RINGS,
        seed: seed()?,
    };
    let mut stack = Stack::new(config, host, policy, Box::new(watch(options)?), time(started));
    stack.report(&mut tap, &options.published(), time(started));
    for (listen, error) in stack.failed_listeners() {
        eprintln!("netstack-tap: cannot listen on {} {}: {error}", listen.protocol, listen.at);
    }
    if let Some(path) = &options.pcap {
        let capture = FileCapture::create(path, &options.name, options.pcap_max, epoch())?;
        stack.capture(Some(Arc::new(capture)));
    }
    println!("ready");
    serve(&mut stack, &mut tap, started)
}

/// The audit and the observer of DNS.
fn watch(options: &Options) -> Result<Watch, Failure> {
    let sink: Box<dyn Sink> = match &options.audit {
        None => Box::new(|_: &[u8]| ()),
        Some(path) => {
            let mut file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(path)
                .map_err(Failure::file("open the audit", path))?;
            Box::new(move |lines: &[u8]| {
                if let Err(error) = file.write_all(lines) {
                    eprintln!("netstack-tap: cannot write the audit: {error}");
                }
            })
        }
    };
    Ok(Watch::new(&options.name, epoch(), sink))
}

/// The time since 1970 at the stack's zero, which is now.
fn epoch() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn serve(
    stack: &mut Stack<KernelNet>,
    tap: &mut Tap,
    started: Clock,
) -> Result<Infallible, Failure> {
    let (mut ticked, mut trimmed) = (time(started), 0);
    loop {
        let now = time(started);
        if now >= ticked + SECOND {
            ticked = now;
            stack.tick(now);
            if stack.ended() >= trimmed + TRIM {
                trimmed = stack.ended();
                sandbox_mapped::trim();
            }
        }
        let next = stack.run(tap, now);
        if next.is_some_and(|next| next <= now) {
            continue;
        }
        let next = next.map(|next| next.min(ticked + SECOND)).or(Some(ticked + SECOND));
        let wait = next.map(|next| {
            let micros = i64::try_from((next - now).total_micros()).unwrap_or(i64::MAX);
            Timespec { tv_sec: micros / 1_000_000, tv_nsec: micros % 1_000_000 * 1_000 }
        });
        let mut fds = vec![PollFd::new(&*tap, PollFlags::IN)];
        if let Some(fd) = stack.fd() {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        match poll(&mut fds, wait.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(Failure::Kernel("wait for frames", errno)),
        }
        let mut seen = fds.iter().map(|fd| !fd.revents().is_empty());
        let (frames, host) = (seen.next().unwrap_or(true), seen.next().unwrap_or(true));
        drop(fds);
        tap.ready(frames);
        if !host {
            stack.quiet();
        }
    }
}

fn time(started: Clock) -> Instant {
    Instant::from_micros(i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX))
}

fn seed() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    let read = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Failure::Kernel("get random numbers", errno))?;
    if read != bytes.len() {
        return Err(Failure::Random(read));
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Runs iproute2 in the namespace of the thread that calls.
fn ip(arguments: &[String]) -> Result<(), Failure> {
    let out = Command::new("ip").args(arguments).output().map_err(Failure::NoIp)?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
    Err(Failure::Ip { command: arguments.join(" "), said })
}
