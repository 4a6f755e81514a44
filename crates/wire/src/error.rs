//! Why octets are not a value.

/// Why octets are not a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer octets than a header has.
    #[error("the packet is shorter than an NTP header")]
    HeaderTruncated,
    /// A version that is not one of 1 to 4.
    #[error("the version is not one of 1 to 4")]
    Version,
    /// An extension field whose length is under the minimum, not a multiple of four, or over the end of the packet.
    #[error("an extension field has an impossible length")]
    FieldLength,
    /// Octets behind the last extension field that are neither a field nor a MAC.
    #[error("the packet ends in octets that are neither an extension field nor a MAC")]
    Trailer,
    /// Not a packet of the mode or type that is read here.
    #[error("the packet is of another mode or type")]
    Mode,
    /// More or less data than the header announces or than is taken.
    #[error("the packet has more or less data than it may have")]
    Count,
    /// A value does not fit the buffer that was given for it.
    #[error("the buffer is too short")]
    BufferTooShort,
}
