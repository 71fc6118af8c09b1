//! Generates the ttrpc messages, client and service from `proto/agent.proto`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use ttrpc_codegen::{Codegen, Customize};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    Codegen::new()
        .out_dir(&out)
        .input("proto/agent.proto")
        .include("proto")
        .rust_protobuf()
        .customize(Customize { async_all: true, ..Default::default() })
        .run()?;
    for name in ["agent.rs", "agent_ttrpc.rs"] {
        make_includable(&out.join(name))?;
    }
    Ok(())
}

/// `include!` does not take a file with inner attributes or inner comments.
fn make_includable(path: &Path) -> io::Result<()> {
    let text = fs::read_to_string(path)?;
    let kept: Vec<&str> =
        text.lines().filter(|l| !l.starts_with("#![") && !l.starts_with("//!")).collect();
    fs::write(path, kept.join("\n"))
}
