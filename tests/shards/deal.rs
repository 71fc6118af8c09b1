//! Which part runs in which shard.

use std::fmt;
use std::str::FromStr;

use crate::parts::Piece;

/// One of several shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: usize,
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.of)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once('/').map(|(n, of)| (n.parse(), of.parse()));
        match numbers {
            Some((Ok(n), Ok(of))) if (1..=of).contains(&n) => Ok(Self { index: n - 1, of }),
            _ => Err(format!("invalid shard: {text}: N/M with N from 1 to M wanted")),
        }
    }
}

/// The shard of a commit.
pub fn pick(hash: &str, of: usize) -> Result<Shard, String> {
    let start = hash.get(..8).and_then(|start| u32::from_str_radix(start, 16).ok());
    let number = start.ok_or_else(|| format!("invalid commit hash: {hash}"))?;
    let index = usize::try_from(number).map_err(|_| "invalid commit hash: too large")?;
    if of == 0 {
        return Err("invalid number of shards: 0".to_owned());
    }
    Ok(Shard { index: index % of, of })
}

/// Gives the longest piece that is left to the shard with the least, and keeps
/// the order of the pieces within a shard.
pub fn deal(pieces: Vec<Piece>, shards: usize) -> Vec<Vec<String>> {
    let mut loads = vec![0; shards];
    let mut dealt: Vec<(usize, usize)> = vec![];
    let mut longest: Vec<usize> = (0..pieces.len()).collect();
    longest.sort_by_key(|n| std::cmp::Reverse(pieces[*n].seconds));
    for n in longest {
        let least = (0..shards).min_by_key(|shard| loads[*shard]).unwrap_or(0);
        loads[least] += pieces[n].seconds;
        dealt.push((n, least));
    }
    dealt.sort_unstable();
    (0..shards)
        .map(|shard| {
            let mine = dealt.iter().filter(|(_, of)| *of == shard);
            mine.map(|(n, _)| pieces[*n].target.clone()).collect()
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{TIMES, parts};

    fn piece(target: &str, seconds: u32) -> Piece {
        Piece { target: target.to_owned(), seconds }
    }

    fn rest() -> Vec<Piece> {
        let rest = parts::parse(TIMES).unwrap().into_iter();
        rest.filter(|part| part.tier == parts::Tier::Rest).flat_map(|part| part.pieces()).collect()
    }

    #[test]
    fn shards_are_read_and_written() {
        let shard: Shard = "2/3".parse().unwrap();
        assert_eq!(shard, Shard { index: 1, of: 3 });
        assert_eq!(shard.to_string(), "2/3");
        for bad in ["", "3", "0/3", "4/3", "a/3", "1/", "1/0"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_commit_has_one_shard_and_commits_have_all() {
        assert_eq!(pick("82c3588aff", 3), pick("82c3588aff", 3));
        let of = |hash: &str| pick(hash, 3).unwrap().index;
        assert_eq!([of("00000000"), of("00000001"), of("00000002ab")], [0, 1, 2]);
        assert!(pick("", 3).is_err() && pick("no commit", 3).is_err());
        assert!(pick("82c3588aff", 0).is_err());
    }

    #[test]
    fn long_pieces_go_to_shards_of_their_own() {
        let pieces = vec![piece("a", 1), piece("b", 9), piece("c", 5), piece("d", 4)];
        assert_eq!(deal(pieces, 2), [vec!["a", "b"], vec!["c", "d"]]);
        assert_eq!(deal(vec![], 2), [Vec::<String>::new(), vec![]]);
    }

    #[test]
    fn every_piece_is_in_one_shard() {
        for shards in 1..=5 {
            let mut all: Vec<String> = deal(rest(), shards).concat();
            let mut wanted: Vec<String> = rest().into_iter().map(|piece| piece.target).collect();
            all.sort();
            wanted.sort();
            assert_eq!(all, wanted);
        }
    }

    /// 40 minutes with the builds that a shard needs, which take 10.
    #[test]
    fn three_shards_take_40_minutes_each() {
        for shard in deal(rest(), 3) {
            let mine = rest().into_iter().filter(|piece| shard.contains(&piece.target));
            let seconds: u32 = mine.map(|piece| piece.seconds).sum();
            assert!(seconds <= 30 * 60, "{seconds} s: {shard:?}");
        }
    }
}
