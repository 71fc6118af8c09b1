//! Deals the parts of `make test-all` to shards of equal time.
//!
//! - `shards parts [N/M]` prints the make targets of one shard, or of all.
//! - `shards pick HASH M` prints the shard of a commit, as `N/M`.
#![allow(clippy::print_stdout)]

mod deal;
mod parts;

use std::process::ExitCode;

use crate::deal::Shard;
use crate::parts::Tier;

/// The measured times, next to this file.
const TIMES: &str = include_str!("times");

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("shards: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<String, String> {
    match arguments {
        ["parts"] => Ok(rest()?.map(|part| part.name).collect::<Vec<_>>().join(" ")),
        ["parts", shard] => {
            let shard: Shard = shard.parse()?;
            let pieces = rest()?.flat_map(|part| part.pieces()).collect();
            Ok(deal::deal(pieces, shard.of).swap_remove(shard.index).join(" "))
        }
        ["pick", hash, of] => {
            let of = of.parse().map_err(|_| format!("invalid number of shards: {of}"))?;
            deal::pick(hash, of).map(|shard| shard.to_string())
        }
        _ => Err("usage: shards parts [N/M] | shards pick HASH M".to_owned()),
    }
}

fn rest() -> Result<impl Iterator<Item = parts::Part>, String> {
    Ok(parts::parse(TIMES)?.into_iter().filter(|part| part.tier == Tier::Rest))
}
