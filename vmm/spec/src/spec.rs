use serde::{Deserialize, Serialize};

/// Most vCPUs: the guest's MP table and our tests go up to here.
pub const MAX_VCPUS: u8 = 16;
/// Least memory in which the guest kernel and the agent run a container.
pub const MIN_MEMORY_MIB: u32 = 64;
/// Most memory: 1 TiB keeps every address of the guest below 2^41.
pub const MAX_MEMORY_MIB: u32 = 1024 * 1024;
/// Longest addition to the kernel's command line; the whole must stay below
/// the 2048 bytes that x86 Linux reads.
pub(crate) const MAX_CMDLINE: usize = 1024;

/// What a virtual machine is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// Virtual CPUs, 1 to [`MAX_VCPUS`].
    pub vcpus: u8,
    /// Guest memory in MiB, [`MIN_MEMORY_MIB`] to [`MAX_MEMORY_MIB`].
    pub memory_mib: u32,
    /// Words appended to the kernel's command line.
    #[serde(default)]
    pub cmdline: String,
}

/// A [`VmSpec`] that no engine could run.
#[allow(missing_docs)]
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("invalid number of vCPUs: {0} vCPUs, not 1 to {MAX_VCPUS}")]
    Vcpus(u8),
    #[error("invalid memory size: {0} MiB, not {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB} MiB")]
    Memory(u32),
    #[error("invalid kernel command line: {0} bytes, more than {MAX_CMDLINE}")]
    CmdlineLength(usize),
    /// cmdline holds something other than printable ASCII.
    #[error("invalid kernel command line: byte {0:#04x} is not printable ASCII")]
    CmdlineByte(u8),
}

impl VmSpec {
    /// Checks every field against its bounds.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.check_vcpus()?;
        self.check_memory()?;
        self.check_cmdline()
    }

    fn check_vcpus(&self) -> Result<(), SpecError> {
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(SpecError::Vcpus(self.vcpus));
        }
        Ok(())
    }

    fn check_memory(&self) -> Result<(), SpecError> {
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&self.memory_mib) {
            return Err(SpecError::Memory(self.memory_mib));
        }
        Ok(())
    }

    fn check_cmdline(&self) -> Result<(), SpecError> {
        if self.cmdline.len() > MAX_CMDLINE {
            return Err(SpecError::CmdlineLength(self.cmdline.len()));
        }
        match self.cmdline.bytes().find(|b| !(b' '..=b'~').contains(b)) {
            Some(byte) => Err(SpecError::CmdlineByte(byte)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
