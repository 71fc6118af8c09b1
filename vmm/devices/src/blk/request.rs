//! A request (virtio 1.2 section 5.2.6): a header, data, and a byte in which
//! the device says how it went.

use std::io;

use sandbox_vm_spec::disks::{SECTOR, SERIAL, find};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

use super::Disks;
use super::config::MAX_ERASED;
use super::disk::Disk;
use crate::chain::{Reader, Writer};
use crate::{Chain, Memory};

/// Type, a reserved word, and the first sector.
const HEADER: usize = 16;
/// First sector, number of sectors, flags.
const SEGMENT: usize = 16;
/// The serial number is as long, filled up with zeros.
const ID: usize = 20;
/// Zeros that the room before the first disk is read from.
const ZEROS: [u8; 4096] = [0; 4096];

/// The status of a failed request.
enum Failure {
    /// No disk is there, or the host's file failed.
    Failed,
    /// The device does not know the request.
    Unsupported,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Self::Unsupported,
            _ => Self::Failed,
        }
    }
}

/// Does what is asked in `chain`; returns the bytes written into it. An error is
/// what cannot be answered.
pub fn answer(chain: &Chain, memory: &Memory, disks: &mut Disks) -> Result<u32, &'static str> {
    let (mut reader, mut writer) = (chain.reader(memory), chain.writer(memory));
    let mut header = [0; HEADER];
    reader.read_exact(&mut header).map_err(|_| "a request shorter than its header")?;
    let room = writer.left().checked_sub(1).ok_or("a request without room for its status")?;
    let status = match serve(&header, &mut reader, &mut writer, room, disks) {
        Ok(()) => VIRTIO_BLK_S_OK,
        Err(Failure::Failed) => VIRTIO_BLK_S_IOERR,
        Err(Failure::Unsupported) => VIRTIO_BLK_S_UNSUPP,
    };
    // The status is the last byte, wherever the data ended.
    let last = writer.left() - 1;
    writer.skip(last).and_then(|()| writer.write_all(&[status as u8])).map_err(|_| "no status")?;
    Ok(writer.written())
}

fn serve(
    header: &[u8; HEADER],
    reader: &mut Reader,
    writer: &mut Writer,
    room: u32,
    disks: &mut Disks,
) -> Result<(), Failure> {
    let (kind, sector) = (word(header, 0), long(header, 8));
    match kind {
        VIRTIO_BLK_T_IN => read(disks, sector, writer, room),
        VIRTIO_BLK_T_OUT => write(disks, sector, reader),
        VIRTIO_BLK_T_FLUSH => Ok(disks.values_mut().try_for_each(Disk::flush)?),
        VIRTIO_BLK_T_GET_ID => identify(writer, room),
        VIRTIO_BLK_T_DISCARD | VIRTIO_BLK_T_WRITE_ZEROES => {
            erase(disks, reader, kind == VIRTIO_BLK_T_WRITE_ZEROES)
        }
        _ => Err(Failure::Unsupported),
    }
}

fn read(disks: &mut Disks, sector: u64, writer: &mut Writer, room: u32) -> Result<(), Failure> {
    let byte = whole(sector, u64::from(room))?;
    if find(byte).0 == 0 {
        return zeros(writer, room);
    }
    let (disk, offset) = part(disks, byte, room.into())?;
    let file = disk.read_at(offset)?;
    let mut left = room;
    while left > 0 {
        match writer.read_from(file, left)? {
            // The file has become shorter.
            0 => return Err(Failure::Failed),
            done => left -= done,
        }
    }
    Ok(())
}

fn zeros(writer: &mut Writer, room: u32) -> Result<(), Failure> {
    let mut left = room as usize;
    while left > 0 {
        let piece = left.min(ZEROS.len());
        writer.write_all(&ZEROS[..piece])?;
        left -= piece;
    }
    Ok(())
}

fn write(disks: &mut Disks, sector: u64, reader: &mut Reader) -> Result<(), Failure> {
    let len = reader.left();
    let byte = whole(sector, len.into())?;
    let (disk, offset) = part(disks, byte, len.into())?;
    let file = disk.write_at(offset)?;
    while reader.left() > 0 {
        let left = reader.left();
        if reader.write_to(file, left)? == 0 {
            return Err(Failure::Failed);
        }
    }
    Ok(())
}

fn identify(writer: &mut Writer, room: u32) -> Result<(), Failure> {
    let mut id = [0; ID];
    id[..SERIAL.len()].copy_from_slice(SERIAL.as_bytes());
    if (room as usize) < ID {
        return Err(Failure::Failed);
    }
    Ok(writer.write_all(&id)?)
}

fn erase(disks: &mut Disks, reader: &mut Reader, zero: bool) -> Result<(), Failure> {
    let mut segment = [0; SEGMENT];
    if reader.left() as usize != SEGMENT {
        return Err(Failure::Unsupported);
    }
    reader.read_exact(&mut segment)?;
    let (sector, count, flags) = (long(&segment, 0), word(&segment, 8), word(&segment, 12));
    // Unknown flags are refused (section 5.2.6.2), and so is this one where
    // nothing is to be zero.
    let known = if zero { VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP } else { 0 };
    if flags & !known != 0 {
        return Err(Failure::Unsupported);
    }
    if count > MAX_ERASED {
        return Err(Failure::Failed);
    }
    let len = u64::from(count) * SECTOR;
    let (disk, offset) = part(disks, whole(sector, len)?, len)?;
    if len == 0 {
        return Ok(());
    }
    if zero {
        disk.zero(offset, len, flags != 0)?
    } else {
        disk.discard(offset, len)?
    }
    Ok(())
}

/// The first byte of whole sectors.
fn whole(sector: u64, len: u64) -> Result<u64, Failure> {
    if !len.is_multiple_of(SECTOR) {
        return Err(Failure::Failed);
    }
    sector.checked_mul(SECTOR).ok_or(Failure::Failed)
}

/// The disk that `len` bytes of the device are in, and where.
fn part(disks: &mut Disks, byte: u64, len: u64) -> Result<(&mut Disk, u64), Failure> {
    let (number, offset) = find(byte);
    let disk = u16::try_from(number).ok().and_then(|number| disks.get_mut(&number));
    let disk = disk.filter(|disk| disk.has(offset, len)).ok_or(Failure::Failed)?;
    Ok((disk, offset))
}

fn word(bytes: &[u8; 16], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn long(bytes: &[u8; 16], at: usize) -> u64 {
    let mut long = [0; 8];
    long.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(long)
}
