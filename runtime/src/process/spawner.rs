//! The thread that starts all children.
//!
//! A child asks to be killed when its parent dies, and for Linux the parent is
//! the thread that forked it (`PR_SET_PDEATHSIG` in prctl(2)). Threads of
//! tokio come and go; this one stays.

use std::io;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Room for `Command::spawn`, which allocates what is large.
const STACK: usize = 128 * 1024;

struct Job {
    command: Command,
    answer: oneshot::Sender<io::Result<Child>>,
}

static JOBS: Mutex<Option<mpsc::Sender<Job>>> = Mutex::new(None);

/// Starts `command`.
pub(super) async fn spawn(command: Command) -> io::Result<Child> {
    let (answer, answered) = oneshot::channel();
    submit(Job { command, answer })?;
    answered.await.map_err(|_| io::Error::other("the spawning thread is gone"))?
}

fn submit(job: Job) -> io::Result<()> {
    let mut jobs = JOBS.lock();
    let sender = match jobs.take() {
        Some(sender) => sender,
        None => start()?,
    };
    let sent = sender.send(job).map_err(|_| io::Error::other("the spawning thread is gone"));
    if sent.is_ok() {
        *jobs = Some(sender);
    }
    sent
}

fn start() -> io::Result<mpsc::Sender<Job>> {
    let (sender, jobs) = mpsc::channel::<Job>();
    thread::Builder::new().name("spawner".into()).stack_size(STACK).spawn(move || {
        for Job { mut command, answer } in jobs {
            if let Err(Ok(mut orphan)) = answer.send(command.spawn()) {
                super::end(&mut orphan);
            }
        }
    })?;
    Ok(sender)
}
