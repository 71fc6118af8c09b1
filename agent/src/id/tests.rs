use super::*;

#[test]
fn containerds_ids_are_taken() {
    let longest = "a".repeat(MAX_ID);
    for id in ["a", "0", "web-1", "k8s.io_pod.7", "A-b_c.d", longest.as_str()] {
        assert_eq!(check(id), Ok(()), "{id:?}");
    }
}

#[test]
fn ids_that_climb_or_confuse_are_refused() {
    let long = "a".repeat(MAX_ID + 1);
    for id in [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\0b",
        "-a",
        "a-",
        ".a",
        "a..b",
        "a--b",
        "a b",
        "ä",
        "a\n",
        long.as_str(),
    ] {
        assert!(check(id).is_err(), "{id:?} was taken");
    }
}
