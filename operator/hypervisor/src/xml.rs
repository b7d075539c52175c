//! A small XML tree: written with quick-xml's `Writer`, read with its `Reader`.
//!
//! Values are escaped here and nowhere else. Tab, line feed and carriage return are written as character references,
//! because a parser turns the raw characters into spaces in attributes (XML 1.0, 3.3.3) and carriage returns into line
//! feeds in text (2.11).

use quick_xml::events::{BytesEnd, BytesStart, BytesText, Event};
use quick_xml::{Reader, Writer, XmlVersion};

/// Deeper documents are refused: libvirt's are about ten levels deep.
const MAX_DEPTH: usize = 64;
/// Longer documents are refused. Capabilities, the longest that we read, are some 100 KiB.
const MAX_BYTES: usize = 16 << 20;

/// An XML element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// The name as written, prefix included.
    pub name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Element>,
    text: String,
}

/// The document is not well-formed or goes beyond our bounds.
#[derive(Debug, thiserror::Error)]
#[error("not readable as XML: {0}")]
pub(crate) struct XmlError(String);

impl Element {
    pub fn new(name: impl Into<String>) -> Self {
        Element {
            name: name.into(),
            attributes: Vec::new(),
            children: Vec::new(),
            text: String::new(),
        }
    }

    pub fn attr(mut self, name: &str, value: impl Into<String>) -> Self {
        self.attributes.push((name.to_owned(), value.into()));
        self
    }

    pub fn attr_if(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.attr(name, value),
            None => self,
        }
    }

    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = text.into();
        self
    }

    pub fn child(mut self, child: Element) -> Self {
        self.children.push(child);
        self
    }

    pub fn child_if(self, child: Option<Element>) -> Self {
        self.children(child)
    }

    pub fn children(mut self, children: impl IntoIterator<Item = Element>) -> Self {
        self.children.extend(children);
        self
    }

    /// The value of an attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text directly inside, without surrounding white space.
    pub fn content(&self) -> &str {
        self.text.trim()
    }

    /// The first child of that name.
    pub fn find(&self, name: &str) -> Option<&Element> {
        self.all(name).next()
    }

    /// The element at the end of a path of child names.
    pub fn path(&self, path: &[&str]) -> Option<&Element> {
        path.iter().try_fold(self, |element, name| element.find(name))
    }

    /// All children of that name.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &Element> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// All children.
    pub fn elements(&self) -> impl Iterator<Item = &Element> {
        self.children.iter()
    }

    /// The first child that declares the namespace itself, as libvirt writes metadata.
    pub fn child_in_namespace(&self, namespace: &str) -> Option<&Element> {
        self.children.iter().find(|child| {
            let prefix = child.name.split_once(':').map_or("", |(prefix, _)| prefix);
            let key = if prefix.is_empty() {
                "xmlns".to_owned()
            } else {
                format!("xmlns:{prefix}")
            };
            child.get(&key) == Some(namespace)
        })
    }

    /// The document, indented by two spaces.
    pub fn write(&self) -> String {
        let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
        self.write_into(&mut writer);
        String::from_utf8_lossy(&writer.into_inner()).into_owned()
    }

    fn write_into(&self, writer: &mut Writer<Vec<u8>>) {
        let mut content = self.name.clone();
        for (name, value) in &self.attributes {
            content.push(' ');
            content.push_str(name);
            content.push_str("=\"");
            escape_into(&mut content, value);
            content.push('"');
        }
        let start = BytesStart::from_content(content, self.name.len());
        // Writing into a Vec does not fail, and quick-xml checks nothing: there is no error to hand on.
        if self.children.is_empty() && self.text.is_empty() {
            let _ = writer.write_event(Event::Empty(start));
            return;
        }
        let _ = writer.write_event(Event::Start(start));
        if !self.text.is_empty() {
            let mut text = String::with_capacity(self.text.len());
            escape_into(&mut text, &self.text);
            let _ = writer.write_event(Event::Text(BytesText::from_escaped(text)));
        }
        for child in &self.children {
            child.write_into(writer);
        }
        let _ = writer.write_event(Event::End(BytesEnd::new(self.name.as_str())));
    }

    /// Reads a document. Comments, processing instructions and document types are left out; entities other than XML's
    /// own five are refused.
    pub fn parse(document: &str) -> Result<Element, XmlError> {
        if document.len() > MAX_BYTES {
            return Err(XmlError(format!("{} bytes are more than {MAX_BYTES}", document.len())));
        }
        let mut reader = Reader::from_str(document);
        let mut open: Vec<Element> = Vec::new();
        loop {
            let event = reader.read_event().map_err(|e| XmlError(e.to_string()))?;
            let closed = match event {
                Event::Start(start) => {
                    if open.len() >= MAX_DEPTH {
                        return Err(XmlError(format!("nested deeper than {MAX_DEPTH}")));
                    }
                    open.push(element_of(&start)?);
                    None
                }
                Event::Empty(start) => Some(element_of(&start)?),
                Event::End(_) => open.pop(),
                Event::Text(text) => {
                    append(&mut open, &text.xml10_content());
                    None
                }
                Event::CData(text) => {
                    append(&mut open, &text.xml10_content());
                    None
                }
                Event::GeneralRef(reference) => {
                    let resolved = reference.resolve_char_ref().map_err(|e| XmlError(e.to_string()))?;
                    let name = reference.xml10_content();
                    match resolved {
                        Some(character) => append(&mut open, character.encode_utf8(&mut [0; 4])),
                        None => append(&mut open, predefined(&name)?),
                    }
                    None
                }
                Event::Eof => return Err(XmlError("it ends before its root element does".to_owned())),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => None,
            };
            if let Some(element) = closed {
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
        }
    }
}

fn append(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn element_of(start: &BytesStart<'_>) -> Result<Element, XmlError> {
    let mut element = Element::new(start.name().as_ref());
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|e| XmlError(e.to_string()))?;
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|e| XmlError(e.to_string()))?;
        element
            .attributes
            .push((attribute.key.as_ref().to_owned(), value.into_owned()));
    }
    Ok(element)
}

fn predefined(name: &str) -> Result<&'static str, XmlError> {
    match name {
        "lt" => Ok("<"),
        "gt" => Ok(">"),
        "amp" => Ok("&"),
        "apos" => Ok("'"),
        "quot" => Ok("\""),
        _ => Err(XmlError("it uses an entity of its own".to_owned())),
    }
}

fn escape_into(out: &mut String, raw: &str) {
    for character in raw.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\t' => out.push_str("&#9;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            character => out.push(character),
        }
    }
}

/// Whether XML 1.0 can carry the character at all (production 2, `Char`): most control characters can't be written, not
/// even as references.
pub(crate) fn is_xml_char(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_attribute_comes_back_the_same(value in any::<String>()) {
            let value: String = value.chars().filter(|c| is_xml_char(*c)).collect();
            let element = Element::new("a").attr("b", &value);
            prop_assert_eq!(Element::parse(&element.write()).unwrap(), element);
        }

        #[test]
        fn any_text_comes_back_the_same(value in any::<String>()) {
            let value: String = value.chars().filter(|c| is_xml_char(*c)).collect();
            let element = Element::new("a").child(Element::new("b").text(&value));
            let read = Element::parse(&element.write()).unwrap();
            prop_assert_eq!(&read.find("b").unwrap().text, &value);
        }

        #[test]
        fn reading_anything_ends_without_a_panic(document in "\\PC{0,200}|(<[a-b/!&;\"'= ]{0,5}>?){0,30}") {
            let _ = Element::parse(&document);
        }
    }

    #[test]
    fn a_document_nested_too_deep_is_refused() {
        assert!(
            Element::parse(&"<a>".repeat(MAX_DEPTH + 1))
                .unwrap_err()
                .to_string()
                .contains("nested")
        );
    }

    #[test]
    fn an_entity_of_the_documents_own_is_refused() {
        let document = "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>";
        assert!(Element::parse(document).unwrap_err().to_string().contains("entity"));
    }

    #[test]
    fn a_document_that_stops_early_is_refused() {
        assert!(Element::parse("<a><b/>").is_err());
        assert!(Element::parse("").is_err());
    }

    #[test]
    fn a_child_is_found_by_the_namespace_it_declares() {
        let root = Element::parse("<m><x:i xmlns:x='urn:1' k='1'/><i xmlns='urn:2' k='2'/><i k='3'/></m>").unwrap();
        assert_eq!(root.child_in_namespace("urn:1").unwrap().get("k"), Some("1"));
        assert_eq!(root.child_in_namespace("urn:2").unwrap().get("k"), Some("2"));
        assert!(root.child_in_namespace("urn:3").is_none());
    }
}
