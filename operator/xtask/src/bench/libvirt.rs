//! How long does libvirt itself take for the same domain? A copy of an Instance's domain with other names, defined and
//! started by virsh on the Instance's node.

use std::time::Duration;

use virga_lab::Node;

use super::Error;
use crate::file;

/// Beside the agent's own directories, so that libvirt may read it and the agent does not look there.
const FOLDER: &str = "/var/lib/virga/bench";
const NAME: &str = "bench";
/// Any UUID that no Instance has.
const UUID: &str = "00000000-bbbb-4bbb-8bbb-000000000001";

/// A domain that can be started again and again.
pub struct Twin<'a> {
    node: &'a Node,
}

impl<'a> Twin<'a> {
    /// The twin of the domain of the Instance with this uid, with a root disk of its own over the same image.
    pub fn of(node: &'a Node, uid: &str) -> Result<Self, Error> {
        let short: String = uid.chars().filter(|c| *c != '-').take(8).collect();
        let directory = format!("/var/lib/virga/instances/{uid}");
        let xml = node.run(&["virsh", "dumpxml", "--inactive", &format!("virga-{short}")])?;
        let twin = Self { node };
        twin.remove()?;
        let disk = format!("{directory}/root.qcow2");
        let info = node.run(&["qemu-img", "info", "--force-share", "--output=json", &disk])?;
        let (backing, format, size) = overlay(&info).ok_or_else(|| Error::unreadable("qemu-img info", &info))?;
        let backing = node.run(&["readlink", "-f", &backing])?.trim().to_owned();
        node.run(&["mkdir", "-p", FOLDER])?;
        node.run(&["cp", &format!("{directory}/seed.iso"), FOLDER])?;
        node.run(&["ln", "-sf", &backing, &format!("{FOLDER}/base")])?;
        let root = format!("{FOLDER}/root.qcow2");
        node.run(&[
            "qemu-img", "create", "-q", "-f", "qcow2", "-F", &format, "-b", &backing, &root, &size,
        ])?;
        let path = node.file(&format!("{FOLDER}/domain.xml"));
        let own = Own {
            name: NAME,
            uuid: UUID,
            folder: FOLDER,
        };
        let xml = own
            .renamed(&xml, &directory, uid)
            .ok_or_else(|| Error::unreadable("virsh dumpxml", &xml))?;
        file::write(&path, xml)?;
        Ok(twin)
    }

    /// Defines and starts it, and takes it away again. Returns what virsh measured of the two calls, without its own
    /// start and connection.
    pub fn start(&self) -> Result<Duration, Error> {
        let script = format!("define {FOLDER}/domain.xml; start {NAME}");
        let said = self.node.run(&["virsh", "--timing", &script])?;
        self.end()?;
        took(&said, 2).ok_or_else(|| Error::unreadable("virsh's timing", &said))
    }

    fn end(&self) -> Result<(), Error> {
        // Each may be so already.
        self.node.exec(&["virsh", "destroy", NAME])?;
        self.node.exec(&["virsh", "undefine", "--nvram", NAME])?;
        Ok(())
    }

    /// Takes all of it away.
    pub fn remove(&self) -> Result<(), Error> {
        self.end()?;
        self.node.run(&["rm", "-rf", FOLDER])?;
        Ok(())
    }
}

/// Backing file, its format, and the virtual size in bytes.
pub fn overlay(info: &str) -> Option<(String, String, String)> {
    let info: serde_json::Value = serde_json::from_str(info).ok()?;
    let backing = info
        .get("full-backing-filename")
        .or_else(|| info.get("backing-filename"))?;
    let format = info.get("backing-filename-format")?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    Some((text(backing)?, text(format)?, info.get("virtual-size")?.to_string()))
}

/// What a twin has of its own.
pub struct Own<'a> {
    /// The domain's name.
    pub name: &'a str,
    /// Its UUID.
    pub uuid: &'a str,
    /// Where its files are.
    pub folder: &'a str,
}

impl Own<'_> {
    /// The same XML with name, UUID and files of the twin's, and without the mark that makes a domain the agent's.
    pub fn renamed(&self, xml: &str, directory: &str, uid: &str) -> Option<String> {
        let (before, rest) = xml.split_once("<metadata>")?;
        let (_, after) = rest.split_once("</metadata>")?;
        // The UUID is in the system's firmware table as well, and libvirt compares the two.
        let xml = format!("{before}{after}")
            .replace(directory, self.folder)
            .replace(uid, self.uuid);
        with_content(&xml, "name", self.name)
    }
}

/// The first such element with another content.
fn with_content(xml: &str, element: &str, content: &str) -> Option<String> {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let (before, rest) = xml.split_once(&open)?;
    let (_, after) = rest.split_once(&close)?;
    Some(format!("{before}{open}{content}{close}{after}"))
}

/// The sum of virsh's `(Time: 12.345 ms)`, one for each of so many commands.
pub fn took(said: &str, commands: usize) -> Option<Duration> {
    let times = said
        .lines()
        .filter_map(|line| line.trim().strip_prefix("(Time: ")?.strip_suffix(" ms)"));
    let times: Option<Vec<f64>> = times.map(|text| text.parse().ok()).collect();
    let times = times.filter(|times| times.len() == commands)?;
    Duration::try_from_secs_f64(times.iter().sum::<f64>() / 1e3).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virsh_tells_how_long_each_command_took() {
        let said =
            "Domain 'bench' defined from /x\n\n(Time: 3.250 ms)\n\nDomain 'bench' started\n\n(Time: 400.000 ms)\n";
        assert_eq!(took(said, 2), Some(Duration::from_micros(403_250)));
        assert_eq!(took("(Time: 3.250 ms)", 2), None);
    }

    #[test]
    fn the_twin_is_the_same_domain_with_its_own_names_and_no_mark() {
        let xml = "<domain><name>virga-1</name><uuid>u-1</uuid><metadata><x/></metadata><source file='/i/u-1/root.qcow2'/>\
                   <interface><alias name='ua-0'/></interface></domain>";
        let own = Own {
            name: NAME,
            uuid: UUID,
            folder: FOLDER,
        };
        let twin = own.renamed(xml, "/i/u-1", "u-1").unwrap();
        assert_eq!(
            twin,
            format!(
                "<domain><name>bench</name><uuid>{UUID}</uuid><source file='{FOLDER}/root.qcow2'/>\
                 <interface><alias name='ua-0'/></interface></domain>"
            )
        );
        assert_eq!(own.renamed("<domain/>", "/i/u-1", "u-1"), None);
    }

    #[test]
    fn an_overlay_names_what_it_lies_over() {
        let info = r#"{"virtual-size": 268435456, "filename": "r", "backing-filename-format": "qcow2", "backing-filename": "/i/base"}"#;
        let expected = ("/i/base".to_owned(), "qcow2".to_owned(), "268435456".to_owned());
        assert_eq!(overlay(info), Some(expected));
    }
}
