//! Which TLS provider is in use? One: rustls with ring.

use rustls::crypto::{CryptoProvider, ring};

/// Makes ring the process's TLS provider. The first line of every `main`.
///
/// rustls refuses to choose when two providers are compiled in, and it refuses late, at the first connection. Calling
/// this more than once does no harm.
pub fn install_crypto_provider() {
    if CryptoProvider::get_default().is_none() {
        // The only failure is that another thread was faster, which is as good.
        let _ = ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_can_be_installed_twice() {
        install_crypto_provider();
        install_crypto_provider();
        assert!(CryptoProvider::get_default().is_some());
    }
}
