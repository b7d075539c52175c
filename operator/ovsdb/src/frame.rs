//! Where does one JSON text end and the next begin? JSON-RPC over a stream has no frames: texts follow one another
//! (RFC 7047, 4). The peer may be hostile: length and depth are bounded before anything is parsed.

use bytes::{Buf, Bytes, BytesMut};

/// What a peer may send in one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest message in bytes. The first answer to a monitor holds all rows: about 500 bytes a port.
    pub length: usize,
    /// Deepest nesting of arrays and objects. OVSDB needs about 10.
    pub depth: usize,
}

impl Default for Limits {
    /// 64 MiB, 32 deep.
    fn default() -> Self {
        Self {
            length: 64 << 20,
            depth: 32,
        }
    }
}

/// Why a stream is not JSON-RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A message is longer than allowed.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// A message nests deeper than allowed.
    #[error("a message nests deeper than {0}")]
    TooDeep(usize),
    /// Something that begins no message.
    #[error("a message begins with byte {0:#04x} instead of an opening brace")]
    NotAnObject(u8),
}

/// Cuts a stream of bytes into JSON objects. It looks at each byte once, and only at brackets and strings: whether the
/// text is JSON is for the parser to say.
#[derive(Debug)]
pub struct Splitter {
    limits: Limits,
    buffer: BytesMut,
    /// How far the buffer has been looked at.
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Splitter {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            buffer: BytesMut::new(),
            scanned: 0,
            depth: 0,
            in_string: false,
            escaped: false,
        }
    }

    /// Where the stream's next bytes go.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message, if it has arrived. After an error the stream is of no more use.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, Error> {
        if self.scanned == 0 {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            if self.scanned == 0 && byte != b'{' {
                return Err(Error::NotAnObject(byte));
            }
            self.scanned += 1;
            if self.scanned > self.limits.length {
                return Err(Error::TooLong(self.limits.length));
            }
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.depth += 1;
                    if self.depth > self.limits.depth {
                        return Err(Error::TooDeep(self.limits.depth));
                    }
                }
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let frame = self.buffer.split_to(self.scanned).freeze();
                        self.scanned = 0;
                        return Ok(Some(frame));
                    }
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn frames(splitter: &mut Splitter, bytes: &[u8]) -> Result<Vec<Bytes>, Error> {
        splitter.buffer().extend_from_slice(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = splitter.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    const SMALL: Limits = Limits { length: 64, depth: 4 };

    #[test]
    fn texts_that_follow_one_another_are_cut_apart() {
        let mut splitter = Splitter::new(SMALL);
        let got = frames(&mut splitter, b" {\"a\":\"}\\\"\"}\n{}{\"b\":[1]} {\"c\"").unwrap();
        assert_eq!(got, [&b"{\"a\":\"}\\\"\"}"[..], b"{}", b"{\"b\":[1]}"]);
        assert_eq!(frames(&mut splitter, b":2}").unwrap(), [&b"{\"c\":2}"[..]]);
    }

    #[test]
    fn a_message_that_never_ends_is_cut_off_at_the_limit() {
        let mut splitter = Splitter::new(SMALL);
        assert_eq!(frames(&mut splitter, b"{\"aaaaaaaaaaaaaaaaaaaaaaaaaaa"), Ok(Vec::new()));
        let endless = [b'a'; 64];
        assert_eq!(frames(&mut splitter, &endless), Err(Error::TooLong(64)));
    }

    #[test]
    fn endless_nesting_is_cut_off_before_it_is_parsed() {
        assert_eq!(
            frames(&mut Splitter::new(SMALL), b"{\"a\":[[[[["),
            Err(Error::TooDeep(4))
        );
    }

    #[test]
    fn what_is_no_object_is_refused_at_its_first_byte() {
        for garbage in [&b"[1]"[..], b"HTTP/1.1 400", b"}", b"\"a\"", b"\x16\x03\x01"] {
            let first = garbage[0];
            assert_eq!(
                frames(&mut Splitter::new(SMALL), garbage),
                Err(Error::NotAnObject(first))
            );
        }
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_same_messages_come_out(
            texts in proptest::collection::vec(".{0,20}", 1..6),
            cuts in proptest::collection::vec(1_usize..9, 1..40),
        ) {
            let messages: Vec<Json> = texts.iter().map(|text| json!({ text.as_str(): [text, {"x": [text]}] })).collect();
            let stream: Vec<u8> = messages.iter().flat_map(|message| message.to_string().into_bytes()).collect();
            let mut splitter = Splitter::new(Limits { length: 1000, depth: 8 });
            let (mut at, mut got) = (0, Vec::new());
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(stream.len());
                got.extend(frames(&mut splitter, &stream[at..end]).unwrap());
                at = end;
                if at == stream.len() {
                    break;
                }
            }
            let got: Vec<Json> = got.iter().map(|frame| serde_json::from_slice(frame).unwrap()).collect();
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn garbage_never_panics_and_never_passes_the_limits(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut splitter = Splitter::new(SMALL);
            splitter.buffer().extend_from_slice(&bytes);
            while let Ok(Some(frame)) = splitter.next_frame() {
                prop_assert!(frame.len() <= SMALL.length);
            }
        }
    }
}
