use super::*;

#[test]
fn signals_are_1_to_64() {
    for number in [1, 9, 15, 32, 33, 34, 64] {
        assert!(check_signal(number).is_ok(), "{number}");
    }
    for number in [0, 65, 128, u32::MAX] {
        assert!(matches!(check_signal(number), Err(Error::Signal(n)) if n == number), "{number}");
    }
}
