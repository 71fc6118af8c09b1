use virtiofsd::descriptor_utils::Reader;

/// The guest's memory. Its bitmap, which marks pages dirty for migration, is
/// always empty here: it is the one that virtiofsd's descriptor readers are
/// written for.
pub type Memory = vm_memory::GuestMemoryMmap<<Reader<'static> as Reads>::Bitmap>;

/// Names the bitmap without the crate that it is from: device logic is not
/// linked with that of vhost-user.
pub trait Reads {
    /// Bitmap of the memory that is read.
    type Bitmap;
}

impl<B> Reads for Reader<'_, B> {
    type Bitmap = B;
}
