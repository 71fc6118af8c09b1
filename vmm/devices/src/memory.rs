use vhost_user_backend::bitmap::BitmapMmapRegion;

/// The guest's memory. The bitmap, which marks pages dirty for migration, is
/// always empty here: it is the one that virtiofsd's descriptor readers are
/// written for.
pub type Memory = vm_memory::GuestMemoryMmap<BitmapMmapRegion>;
