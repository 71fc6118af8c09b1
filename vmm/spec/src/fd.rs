/// Number of an inherited file descriptor.
pub type Fd = i32;
