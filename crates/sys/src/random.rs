//! Octets that nobody can guess, from the kernel.

use crate::descriptor::check_octets;
use std::io;

/// Fills `octets` from the kernel's random source (`getrandom`); waits, early in the boot, until that is ready.
pub fn fill(octets: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < octets.len() {
        let rest = &mut octets[filled..];
        // SAFETY: the pointer and the length describe the rest of the buffer.
        match check_octets(unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) }) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_fills_are_alike() {
        let (mut first, mut second) = ([0u8; 32], [0u8; 32]);
        super::fill(&mut first).unwrap();
        super::fill(&mut second).unwrap();
        assert_ne!(first, second);
        super::fill(&mut []).unwrap();
    }
}
