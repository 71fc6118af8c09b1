#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::yield_now;

use super::*;
use crate::container::Status;
use crate::failure::ErrorKind;

const PID: u32 = 7;

fn request(id: &str) -> ExecProcess {
    let stdio = Stdio { terminal: true, ..Default::default() };
    ExecProcess { process: ProcessRef::named("web", id), spec: Vec::new(), stdio }
}

fn exec() -> Exec {
    Exec::new(request("x"), PID)
}

fn added(execs: &Execs, id: &str) -> Arc<Exec> {
    execs.add(request(id), PID).unwrap();
    execs.get(&ProcessRef::named("web", id)).unwrap()
}

fn exit(status: u32) -> Exit {
    Exit { status, at: SystemTime::now() }
}

fn reported(events: &mut UnboundedReceiver<PodEvent>) -> Vec<(String, u32)> {
    let exit_of = |event| match event {
        PodEvent::Exit { process, exit, .. } => (process.exec_id().to_owned(), exit.status),
        other => panic!("{other:?}"),
    };
    std::iter::from_fn(|| events.try_recv().ok()).map(exit_of).collect()
}

fn kind(error: Result<(), Error>) -> ErrorKind {
    error.unwrap_err().kind()
}

#[test]
fn an_exec_is_created_runs_and_stops() {
    let exec = exec();
    let state = exec.state(PathBuf::new());
    assert_eq!((state.status, state.pid, state.exit), (Status::Created, 0, None));
    assert!(state.stdio.terminal);
    exec.life.check(|is| is == Status::Created, "created").unwrap();
    exec.set_started(5, Streams::default());
    assert_eq!(
        (exec.state(PathBuf::new()).status, exec.state(PathBuf::new()).pid),
        (Status::Running, PID)
    );
    let error = exec.life.check(|is| is != Status::Running, "stopped");
    assert_eq!(
        error.as_ref().unwrap_err().to_string(),
        r#"process "x" of container "web" is running, it must be stopped"#
    );
    assert_eq!(kind(error), ErrorKind::FailedPrecondition);
    let end = exit(3);
    assert!(exec.life.stop(end));
    assert!(!exec.life.stop(exit(4)), "it ends once");
    let state = exec.state(PathBuf::new());
    assert_eq!((state.status, state.pid, state.exit), (Status::Stopped, PID, Some(end)));
}

#[test]
fn one_that_could_not_be_started_has_ended() {
    let exec = exec();
    exec.set_failed();
    let state = exec.state(PathBuf::new());
    assert_eq!((state.status, state.pid), (Status::Stopped, 0));
    assert_eq!(state.exit.unwrap().status, NOT_STARTED);
}

#[test]
fn what_was_asked_early_is_done_at_the_start() {
    let exec = exec();
    assert!(exec.keep_size(80, 24));
    assert!(exec.keep_size(132, 43));
    exec.close_stdin();
    assert!(exec.early.lock().close_stdin);
    assert_eq!(exec.set_started(5, Streams::default()), Some((132, 43)));
    assert!(!exec.keep_size(80, 24), "it is the terminal's now");
}

#[test]
fn ids_are_taken_until_the_exec_is_removed_and_bounded() {
    let execs = Execs::default();
    let first = added(&execs, "0");
    assert_eq!(kind(execs.add(request("0"), PID)), ErrorKind::AlreadyExists);
    for number in 1..MAX_EXECS {
        added(&execs, &number.to_string());
    }
    assert_eq!(kind(execs.add(request("more"), PID)), ErrorKind::ResourceExhausted);
    execs.remove(&first);
    assert_eq!(kind(first.life.check(|_| true, "there")), ErrorKind::NotFound);
    assert!(execs.get(&ProcessRef::named("web", "0")).is_none());
    added(&execs, "more");
}

#[tokio::test]
async fn who_waits_for_one_that_is_removed_is_answered() {
    let execs = Execs::default();
    let exec = added(&execs, "x");
    let waiting = tokio::spawn({
        let exec = Arc::clone(&exec);
        async move { exec.life.wait().await }
    });
    yield_now().await;
    let removed = execs.remove(&exec);
    assert_eq!(removed.status, 0, "it never ran");
    assert_eq!(waiting.await.unwrap(), removed);
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_told_once_and_after_the_start() {
    let (events, mut receiver) = unbounded_channel();
    let execs = Execs::default();
    let exec = added(&execs, "x");
    let turn = exec.life.turn().await;
    exec.set_started(5, Streams::default());
    let telling = tokio::spawn({
        let (exec, events) = (Arc::clone(&exec), events.clone());
        async move { exec.report_exit(exit(3), &events).await }
    });
    yield_now().await;
    assert_eq!(exec.life.exit().unwrap().status, 3, "who waits does not wait for events");
    assert_eq!(reported(&mut receiver), []);
    drop(turn);
    telling.await.unwrap();
    exec.report_exit(exit(4), &events).await;
    assert_eq!(reported(&mut receiver), [("x".to_owned(), 3)]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_container_waits_for_its_execs() {
    let (events, mut receiver) = unbounded_channel();
    let execs = Arc::new(Execs::default());
    let (ran, starting) = (added(&execs, "ran"), added(&execs, "starting"));
    added(&execs, "not started");
    ran.set_started(5, Streams::default());
    let turn = starting.life.turn().await;
    let ending = tokio::spawn({
        let (execs, events) = (Arc::clone(&execs), events.clone());
        async move { execs.ended(&events).await }
    });
    ran.report_exit(exit(1), &events).await;
    yield_now().await;
    assert!(!ending.is_finished(), "one is being started");
    starting.set_started(6, Streams::default());
    drop(turn);
    starting.report_exit(exit(2), &events).await;
    ending.await.unwrap();
    assert_eq!(reported(&mut receiver), [("ran".to_owned(), 1), ("starting".to_owned(), 2)]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_container_does_not_wait_for_ever() {
    let (events, mut receiver) = unbounded_channel();
    let execs = Execs::default();
    added(&execs, "silent").set_started(5, Streams::default());
    let before = tokio::time::Instant::now();
    execs.ended(&events).await;
    assert!(before.elapsed() <= EXITS_TIMEOUT + Duration::from_millis(10));
    assert_eq!(reported(&mut receiver), [("silent".to_owned(), killed().status)]);
}
