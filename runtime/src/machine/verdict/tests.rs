#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

#[tokio::test(start_paused = true)]
async fn the_engines_words_win_over_those_that_come_first() {
    let (notes, ended) = judge(Vec::new());
    notes.note(Rank::Agent, "agent gone".into());
    notes.note(Rank::Backend, "io gone".into());
    assert_eq!(ended.reason(), None);
    notes.note(Rank::Engine, "kernel panic".into());
    assert_eq!(&*ended.wait().await, "kernel panic");
    notes.note(Rank::Requested, "later".into());
    assert_eq!(ended.reason().as_deref(), Some("kernel panic"));
}

#[tokio::test(start_paused = true)]
async fn without_the_engine_the_first_words_count() {
    let (notes, ended) = judge(Vec::new());
    notes.note(Rank::Backend, "io gone".into());
    notes.note(Rank::Agent, "agent gone".into());
    assert_eq!(&*ended.wait().await, "io gone");
}
