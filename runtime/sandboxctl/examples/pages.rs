//! Writes the manual pages and shell completions of `sandboxctl` into a
//! directory, laid out as below `/usr/share`: `make install` runs it.

use std::path::Path;
use std::{env, fs, io};

use clap_complete::{Shell, generate_to};

const NAME: &str = "sandboxctl";

fn main() -> io::Result<()> {
    let Some(share) = env::args_os().nth(1) else {
        return Err(io::Error::other("usage: pages DIRECTORY"));
    };
    let share = Path::new(&share);
    let directory = |path: &str| {
        let path = share.join(path);
        fs::create_dir_all(&path).map(|()| path)
    };
    clap_mangen::generate_to(sandboxctl::command(), directory("man/man1")?)?;
    for (shell, path) in [
        (Shell::Bash, "bash-completion/completions"),
        (Shell::Zsh, "zsh/site-functions"),
        (Shell::Fish, "fish/vendor_completions.d"),
    ] {
        generate_to(shell, &mut sandboxctl::command(), NAME, directory(path)?)?;
    }
    // bash-completion loads a file by the command's name.
    let bash = share.join("bash-completion/completions");
    fs::rename(bash.join("sandboxctl.bash"), bash.join(NAME))
}
