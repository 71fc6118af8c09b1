use std::ops::Range;

use crate::policy::{MAX_LABEL, Name};

/// Longest message: its length has 16 bits over TCP (RFC 1035, section 4.2.2).
pub const MAX_MESSAGE: usize = 65_535;
/// Most records of one message. A server's answer has a few dozen; decoding
/// thousands of compressed names would hold up every other flow of the pod.
const MAX_RECORDS: usize = 512;
/// Most bytes of a name with its lengths and the root (RFC 1035, 2.3.4).
const MAX_WIRE_NAME: usize = 255;
/// Bytes of the header.
pub(super) const HEADER: usize = 12;

/// Types of records that are looked into.
pub(super) mod kind {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const AAAA: u16 = 28;
    pub const OPT: u16 = 41;
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
}
/// The class of the Internet.
pub(super) const IN: u16 = 1;

/// Why a DNS message was rejected.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("the message ends within its {0}")]
    Truncated(&'static str),
    /// A pointer that does not point backwards, or a label of no known kind.
    #[error("a name has a pointer that does not lead backwards, or a label of an unknown kind")]
    Name,
    /// A name longer than any that exists.
    #[error("a name has more than {MAX_WIRE_NAME} bytes")]
    LongName,
    #[error("the message has {0} questions, and not one")]
    Questions(u16),
    /// More records than [`MAX_RECORDS`].
    #[error("the message has {0} records, at most {MAX_RECORDS} are read")]
    Records(usize),
    #[error("{0} bytes follow the last record")]
    Trailing(usize),
    /// Another kind of message than a query or its answer.
    #[error("operation {0} is not a query")]
    Operation(u8),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub name: Name,
    pub kind: u16,
    pub class: u16,
}

/// A record, its data by their place in the message.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub owner: Name,
    pub kind: u16,
    pub class: u16,
    pub ttl: u32,
    pub data: Range<usize>,
}

/// A message that was read to its end.
#[derive(Debug)]
pub(super) struct Message<'a> {
    pub bytes: &'a [u8],
    pub id: u16,
    pub flags: u16,
    pub question: Question,
    /// Where the question ends.
    pub question_end: usize,
    pub answers: Vec<Record>,
    /// Of the additional section; the one that carries EDNS.
    pub opt: Option<Record>,
}

impl<'a> Message<'a> {
    /// Reads a whole message: one question, and nothing behind the last record.
    pub fn read(bytes: &'a [u8]) -> Result<Self, MessageError> {
        let mut reader = Reader { bytes, at: 0 };
        let [id, flags, questions, answers, authorities, additional] = reader.header()?;
        let operation = (flags >> 11 & 15) as u8;
        if operation != 0 {
            return Err(MessageError::Operation(operation));
        }
        if questions != 1 {
            return Err(MessageError::Questions(questions));
        }
        let records = [answers, authorities, additional].map(usize::from).iter().sum();
        if records > MAX_RECORDS {
            return Err(MessageError::Records(records));
        }
        let name = reader.name()?;
        let question = Question { name, kind: reader.word()?, class: reader.word()? };
        let question_end = reader.at;
        let answers = reader.records(answers)?;
        reader.records(authorities)?;
        let opt = reader.records(additional)?.into_iter().find(|record| record.kind == kind::OPT);
        match bytes.len() - reader.at {
            0 => Ok(Self { bytes, id, flags, question, question_end, answers, opt }),
            rest => Err(MessageError::Trailing(rest)),
        }
    }

    /// Whether it answers.
    pub fn is_response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// Whether it was cut short for want of room.
    pub fn is_truncated(&self) -> bool {
        self.flags & 0x0200 != 0
    }

    /// 0 where the name exists.
    pub fn code(&self) -> u16 {
        self.flags & 15
    }

    /// The data of a record.
    pub fn data(&self, record: &Record) -> &'a [u8] {
        self.bytes.get(record.data.clone()).unwrap_or_default()
    }

    /// The name that is all the data of a record.
    pub fn target(&self, record: &Record) -> Result<Name, MessageError> {
        let mut reader = Reader { bytes: self.bytes, at: record.data.start };
        let name = reader.name()?;
        if reader.at == record.data.end { Ok(name) } else { Err(MessageError::Truncated("data")) }
    }
}

/// Reads forwards; names may lead it back, and only back.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, part: &'static str) -> Result<&'a [u8], MessageError> {
        let end = self.at.checked_add(count).ok_or(MessageError::Truncated(part))?;
        let taken = self.bytes.get(self.at..end).ok_or(MessageError::Truncated(part))?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N], MessageError> {
        self.take(N, part)?.try_into().map_err(|_| MessageError::Truncated(part))
    }

    fn word(&mut self) -> Result<u16, MessageError> {
        self.array("record").map(u16::from_be_bytes)
    }

    fn header(&mut self) -> Result<[u16; 6], MessageError> {
        let mut words = [0; 6];
        for word in &mut words {
            *word = u16::from_be_bytes(self.array("header")?);
        }
        Ok(words)
    }

    /// A name, whose pointers must each lead to before all that was read of it
    /// so far: so there is an end.
    fn name(&mut self) -> Result<Name, MessageError> {
        let mut labels: Vec<&[u8]> = vec![];
        let mut length = 1;
        let mut behind = None;
        let mut start = self.at;
        loop {
            let [size] = self.array("name")?;
            match size {
                0 => break,
                1..=63 => {
                    let label = self.take(size.into(), "name")?;
                    debug_assert!(label.len() <= MAX_LABEL);
                    length += label.len() + 1;
                    if length > MAX_WIRE_NAME {
                        return Err(MessageError::LongName);
                    }
                    labels.push(label);
                }
                0xc0.. => {
                    let [low] = self.array("name")?;
                    let target = usize::from(u16::from_be_bytes([size & 0x3f, low]));
                    behind.get_or_insert(self.at);
                    if target >= start || target < HEADER {
                        return Err(MessageError::Name);
                    }
                    start = target;
                    self.at = target;
                }
                _ => return Err(MessageError::Name),
            }
        }
        self.at = behind.unwrap_or(self.at);
        Ok(Name::from_labels(labels.into_iter()))
    }

    fn records(&mut self, count: u16) -> Result<Vec<Record>, MessageError> {
        (0..count).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Result<Record, MessageError> {
        let owner = self.name()?;
        let (kind, class) = (self.word()?, self.word()?);
        let ttl = u32::from_be_bytes(self.array("record")?);
        let length = self.word()?;
        let start = self.at;
        self.take(length.into(), "data")?;
        // RFC 2181, section 8: a TTL with the highest bit set is none.
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Ok(Record { owner, kind, class, ttl, data: start..self.at })
    }
}

/// The answer that refuses a query: its header and question, and a code.
pub(super) fn refusal(query: &Message<'_>, code: u16) -> Vec<u8> {
    // A response that may recurse, to what was asked with these flags.
    let flags = 0x8080 | (query.flags & 0x0110) | code;
    let mut bytes = header(query.id, flags, 0, 0);
    bytes.extend(query.bytes.get(HEADER..query.question_end).unwrap_or_default());
    bytes
}

/// A header with one question.
pub(super) fn header(id: u16, flags: u16, answers: u16, additional: u16) -> Vec<u8> {
    [id, flags, 1, answers, 0, additional].iter().flat_map(|word| word.to_be_bytes()).collect()
}
