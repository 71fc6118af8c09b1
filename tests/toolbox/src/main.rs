//! What the tests run inside containers where busybox has no such tool: one
//! static program, `toolbox <tool> <arguments>`.

mod crash;
mod digest;
mod files;
mod frames;
mod load;
mod memory;
mod names;
mod serve;
mod talk;
mod vsock;

use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("toolbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<()> {
    match words {
        ["sha256"] => digest::stdin_sum(),
        ["pour", bytes] => digest::pour(bytes.parse()?),
        ["eat", mib] => memory::eat(mib.parse()?),
        ["files", dir] => files::check(dir.as_ref()),
        ["swap", dir, outside] => files::swap(dir.as_ref(), outside.as_ref()),
        ["vsock", cid, port] => vsock::connect(cid.parse()?, port.parse()?),
        ["tcp", peer, words @ ..] => serve::tcp(peer.parse()?, words),
        ["tcp-name", name, port, words @ ..] => serve::tcp_by_name(name, port.parse()?, words),
        ["udp", peer, words @ ..] => serve::udp(peer.parse()?, words),
        ["many", peer, count, words @ ..] => serve::many(peer.parse()?, count.parse()?, words),
        ["row", peer, count, words @ ..] => serve::row(peer.parse()?, count.parse()?, words),
        ["listen", at, words @ ..] => serve::listen(at.parse()?, words),
        ["udp-echo", at] => serve::udp_echo(at.parse()?),
        ["announce", peer, first, count] => {
            let first: u16 = first.parse()?;
            serve::announce(peer.parse()?, first..first + count.parse::<u16>()?)
        }
        ["look-up", name] => names::look_up(name),
        ["interfaces"] => names::interfaces(),
        ["forge", from, to, port, text] => {
            frames::forge(from.parse()?, to.parse()?, port.parse()?, text)
        }
        ["forge-frame", link, mac, from, to, port, text] => {
            frames::forge_frame((link, mac), from.parse()?, to.parse()?, port.parse()?, text)
        }
        ["load", words @ ..] => load::run(words),
        ["crash-init"] => crash::crash_init(),
        ["reboot"] => crash::reboot_machine(),
        _ => bail!("no such tool: {words:?}"),
    }
}
