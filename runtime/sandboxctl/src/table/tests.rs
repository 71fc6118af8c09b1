use super::*;

#[test]
fn columns_are_aligned_by_characters() {
    let rows = [["é", "1", ""], ["abc", "22", "x"]].map(|row| row.map(str::to_owned));
    assert_eq!(table(["A", "B", "C"], rows), "A    B   C\né    1\nabc  22  x\n");
    assert_eq!(table(["A", "B"], []), "A  B\n");
}
