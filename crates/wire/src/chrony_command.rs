//! The headers of chrony's command protocol, versions 5 and 6: what chronyc and chronyd say to each other.
//!
//! ```text
//!         request (20 octets)                 reply (28 octets)
//!   0     version | type 1 | 0 | 0            version | type 2 | 0 | 0
//!   4     command (16) | attempt (16)         command (16) | reply (16)
//!   8     sequence (32)                       status (16) | 0 (48)
//!  12     0 (64)                              0 (16) | sequence (32) at 16 | 0 (64)
//! ```
//! Payloads follow; a request is padded with zeros so that it is at least as long as its reply.

use crate::DecodeError;

/// The version that is spoken.
pub const COMMAND_VERSION: u8 = 6;
/// Octets of a request's header.
pub const REQUEST_HEADER_OCTETS: usize = 20;
/// Octets of a reply's header, and of the shortest request that is looked at.
pub const REPLY_HEADER_OCTETS: usize = 28;
/// Octets of the longest request that is looked at.
pub const REQUEST_OCTETS_MAX: usize = 860;

const TYPE_REQUEST: u8 = 1;
const TYPE_REPLY: u8 = 2;

/// The header of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandRequest<'a> {
    /// Protocol version; other than [`COMMAND_VERSION`] only to say that it is not spoken.
    pub version: u8,
    /// What is asked for.
    pub command: u16,
    /// How often it was asked before.
    pub attempt: u16,
    /// Echoed in the reply.
    pub sequence: u32,
    /// What follows the header, padding included.
    pub payload: &'a [u8],
}

impl<'a> CommandRequest<'a> {
    /// Reads a request; what gives an error here gets no reply.
    ///
    /// # Errors
    /// [`DecodeError::HeaderTruncated`] under [`REPLY_HEADER_OCTETS`], [`DecodeError::Count`] over [`REQUEST_OCTETS_MAX`],
    /// [`DecodeError::Mode`] unless it is a request with its reserved octets zero, [`DecodeError::Version`] below 5.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, _) =
            octets.split_first_chunk::<REPLY_HEADER_OCTETS>().ok_or(DecodeError::HeaderTruncated)?;
        if octets.len() > REQUEST_OCTETS_MAX {
            return Err(DecodeError::Count);
        }
        if header[1..4] != [TYPE_REQUEST, 0, 0] {
            return Err(DecodeError::Mode);
        }
        if header[0] < 5 {
            return Err(DecodeError::Version);
        }
        Ok(Self {
            version: header[0],
            command: u16::from_be_bytes([header[4], header[5]]),
            attempt: u16::from_be_bytes([header[6], header[7]]),
            sequence: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            payload: &octets[REQUEST_HEADER_OCTETS..],
        })
    }
}

/// The header of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommandReply<'a> {
    /// Protocol version.
    pub version: u8,
    /// The request's command.
    pub command: u16,
    /// What the payload is; 1 is nothing.
    pub reply: u16,
    /// 0 for success, or why not.
    pub status: u16,
    /// The request's sequence number.
    pub sequence: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> CommandReply<'a> {
    /// Reads a reply.
    ///
    /// # Errors
    /// [`DecodeError::HeaderTruncated`] under [`REPLY_HEADER_OCTETS`], [`DecodeError::Mode`] unless it is a reply with its
    /// reserved octets zero, [`DecodeError::Version`] when it is not [`COMMAND_VERSION`].
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, payload) =
            octets.split_first_chunk::<REPLY_HEADER_OCTETS>().ok_or(DecodeError::HeaderTruncated)?;
        if header[1..4] != [TYPE_REPLY, 0, 0] {
            return Err(DecodeError::Mode);
        }
        if header[0] != COMMAND_VERSION {
            return Err(DecodeError::Version);
        }
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        Ok(Self {
            version: header[0],
            command: word(4),
            reply: word(6),
            status: word(8),
            sequence: u32::from_be_bytes([header[16], header[17], header[18], header[19]]),
            payload,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_of_a_tracking_exchange_are_read() {
        let mut request = [0; 104];
        request[..12].copy_from_slice(&[6, 1, 0, 0, 0, 33, 0, 2, 0xe4, 0x71, 0x57, 0xbb]);
        let read = CommandRequest::decode(&request).expect("well-formed");
        assert_eq!((read.version, read.command, read.attempt, read.sequence), (6, 33, 2, 0xe471_57bb));
        assert_eq!(read.payload.len(), 84);
        let mut reply = [0; 104];
        reply[..20]
            .copy_from_slice(&[6, 2, 0, 0, 0, 33, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0xe4, 0x71, 0x57, 0xbb]);
        let read = CommandReply::decode(&reply).expect("well-formed");
        assert_eq!((read.command, read.reply, read.status, read.sequence), (33, 5, 7, 0xe471_57bb));
        assert_eq!(read.payload.len(), 76);
    }

    #[test]
    fn what_chronyd_does_not_answer_is_an_error() {
        let request = |version, kind, reserved: [u8; 2], octets: usize| {
            let mut request = std::vec![0; octets.max(4)];
            request[..4].copy_from_slice(&[version, kind, reserved[0], reserved[1]]);
            request.truncate(octets);
            CommandRequest::decode(&request).map(|request| request.version)
        };
        assert_eq!(request(6, 1, [0, 0], 28), Ok(6));
        assert_eq!(request(7, 1, [0, 0], 860), Ok(7));
        assert_eq!(request(6, 1, [0, 0], 27), Err(DecodeError::HeaderTruncated));
        assert_eq!(request(6, 1, [0, 0], 861), Err(DecodeError::Count));
        assert_eq!(request(6, 2, [0, 0], 28), Err(DecodeError::Mode));
        assert_eq!(request(6, 1, [1, 0], 28), Err(DecodeError::Mode));
        assert_eq!(request(6, 1, [0, 1], 28), Err(DecodeError::Mode));
        assert_eq!(request(4, 1, [0, 0], 28), Err(DecodeError::Version));
        assert_eq!(CommandReply::decode(&[0; 27]).err(), Some(DecodeError::HeaderTruncated));
        assert_eq!(CommandReply::decode(&[6; 28]).err(), Some(DecodeError::Mode));
    }
}
