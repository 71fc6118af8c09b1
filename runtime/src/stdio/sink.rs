//! Destinations of output.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;

use super::StdioError;
use super::logger;
use crate::container::Stdio;

pub(super) enum Sink {
    /// A FIFO, or the pipe of a logging program.
    Pipe(pipe::Sender),
    /// A file, written at its end.
    File(File),
}

impl Sink {
    /// Writes all of it, as fast as it is taken.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
            Self::File(file) => {
                file.write_all(bytes).await?;
                file.flush().await
            }
        }
    }
}

/// Opens stdout and stderr.
pub(super) async fn open(
    id: &str,
    stdio: &Stdio,
    namespace: &str,
) -> Result<(Option<Sink>, Option<Sink>), StdioError> {
    if logger::is_one(&stdio.stdout) {
        let (stdout, stderr) = logger::start(id, &stdio.stdout, namespace).await?;
        let stderr = (!stdio.terminal).then_some(Sink::Pipe(stderr));
        return Ok((Some(Sink::Pipe(stdout)), stderr));
    }
    let stdout = one(&stdio.stdout, "stdout").await?;
    let stderr = if stdio.terminal { None } else { one(&stdio.stderr, "stderr").await? };
    Ok((stdout, stderr))
}

async fn one(uri: &str, stream: &'static str) -> Result<Option<Sink>, StdioError> {
    let (path, is_file) = match uri.split_once("://") {
        None if uri.is_empty() => return Ok(None),
        None => (uri, false),
        Some(("fifo", path)) => (path, false),
        Some(("file", path)) => (path, true),
        Some(_) => return Err(StdioError::Scheme { stream, uri: uri.to_owned() }),
    };
    let path = PathBuf::from(path);
    let opened = if is_file { file(&path).await } else { fifo(&path).await };
    opened.map(Some).map_err(|source| StdioError::Open { stream, path, source })
}

/// Both ends of a FIFO; whatever else is at the path is written as it is.
async fn fifo(path: &Path) -> io::Result<Sink> {
    if !std::fs::metadata(path)?.file_type().is_fifo() {
        return OpenOptions::new().append(true).open(path).await.map(Sink::File);
    }
    pipe::OpenOptions::new().read_write(true).open_sender(path).map(Sink::Pipe)
}

async fn file(path: &Path) -> io::Result<Sink> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).open(path).await.map(Sink::File)
}
