//! Is a domain's memory saved, and can it be used?

use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use crate::clean::clean;
use crate::domain::SavedMemory;

/// What there is of the memory of a domain that is off.
pub(super) fn saved(domain: &Domain) -> Result<SavedMemory, Error> {
    if !domain.has_managed_save(0)? {
        return Ok(SavedMemory::None);
    }
    // libvirt marks a file whole when all of it is written, and reads the mark before it reads the definition in it.
    match read_definition(domain) {
        Ok(()) => Ok(SavedMemory::Whole),
        // libvirt's test driver keeps no definition.
        Err(error) if error.code().is(ErrorNumber::NoSupport) => Ok(SavedMemory::Whole),
        Err(error) if error.code().is(ErrorNumber::OperationFailed) || error.code().is(ErrorNumber::InternalError) => {
            Ok(SavedMemory::Broken(clean(error.message())))
        }
        Err(error) => Err(error),
    }
}

/// virDomainManagedSaveGetXMLDesc, which virt 0.5.0 has no method for. The text itself is not needed.
fn read_definition(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the domain's pointer is valid as long as `domain` lives.
    let text = unsafe { sys::virDomainManagedSaveGetXMLDesc(domain.as_ptr(), 0) };
    if text.is_null() {
        return Err(Error::last_error());
    }
    // SAFETY: libvirt allocated the text with malloc and leaves it to its caller.
    unsafe { libc::free(text.cast()) };
    Ok(())
}
