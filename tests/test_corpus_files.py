"""HTML, Markdown, PDF, reStructuredText and Python become text with headings where they stand."""

import pytest

from ragstone.corpus import markdown, pdf, plain, webpage
from ragstone.corpus.problems import Problem


def headings(content):
    """(level, title) of each heading; each stands where the outline says."""
    outline = content.metadata.get("outline", [])
    for offset, _, title in outline:
        line = content.text[offset:].split("\n")[0]
        assert " ".join(line.split()) == title or title in line
    assert [offset for offset, _, _ in outline] == sorted(offset for offset, _, _ in outline)
    return [(level, title) for _, level, title in outline]


# --- HTML

PAGE = """<!DOCTYPE html><html><head><title>A &amp; B</title><style>p {}</style></head><body>
<nav>menu <ul><li>entry</ul></nav><h1>One</h1><p>Hello <b>wor</b>ld
 again<!-- comment --><ul><li>a<li><p>b</p></ul>
<table><tr><td>1<td>2<tr><td>3</table><pre>  x
   y</pre>5 < 6 &lt; 7<br>z<script>if (a<b) "</p>"</script>
<h2>Two<br>lines</h2><img alt="a > b" src=x>end</body>"""


def test_a_page():
    content = webpage.read(PAGE)
    assert content.title == "A & B"
    assert content.text == (
        "One\n\nHello world again\n- a\n- b\n1 2\n3\n\n  x\n   y\n\n"
        "5 < 6 < 7\nz\n\nTwo lines\n\nend"
    )
    assert headings(content) == [(1, "One"), (2, "Two lines")]


HTML = {
    "no title": ("<h1>Head</h1>x", "Head", "Head\n\nx"),
    "no markup": ("a & b &eacute;", "", "a & b é"),
    "unclosed menu": ("<div><nav>menu</div>text", "", "text"),
    "menu to the end": ("text<nav>menu", "", "text"),
    "closed twice": ("<div>a</div></div><b></b></b>c", "", "a\n\nc"),
    "menu inside": ("a<nav><p>b</p></nav>c<button>d</button>e", "", "a\n\nce"),
    "self-closing drawing": ("a<svg/>b", "", "ab"),
    "drawing": ("a<svg><title>no</title><g/></svg>b", "", "ab"),
    "quoted end": ("<p title='>'>x", "", "x"),
    "quote in a word": ("<p title=it's>x</p> it's", "", "x\n\nit's"),
    "unclosed quote": ('<p title="x>y</p>', "", "y"),
    "cut tag": ("x <p", "", "x <p"),
    "less than": ("1<2 and 3 < 4", "", "1<2 and 3 < 4"),
    "comments": ("a<!-- <p> --><!-->b<!x><?y?></ z>c", "", "abc"),
    "cut comment": ("a<!-- b", "", "a"),
    "script in capitals": ("<SCRIPT>x</p></SCRIPT >y", "", "y"),
    "cut script": ("y<script>x", "", "y"),
    "NUL by number": ("a&#0;&#xD800;b", "", "a\ufffd\ufffdb"),
    "huge number": ("a&#" + "9" * 5000 + ";", "", "a&#" + "9" * 5000 + ";"),
    "definition": ("<dl><dt>t<dd>d</dl>", "", "t\n\nd"),
}


@pytest.mark.parametrize("name", HTML)
def test_odd_pages(name):
    page, title, text = HTML[name]
    content = webpage.read(page)
    assert (content.title, content.text) == (title, text)


def test_a_page_says_what_another_parser_finds_in_it():
    soup = pytest.importorskip("bs4").BeautifulSoup(PAGE, "html.parser")
    for tag in soup.find_all(["nav", "script", "style", "title"]):
        tag.decompose()
    ours = webpage.read(PAGE).text.replace("- ", "")
    assert "".join(soup.get_text().split()).removeprefix("html") == "".join(ours.split())


# --- Markdown

MARKDOWN = """---
title: "The handbook"
---
# Opening *hours*

We open at [nine](https://x.org), see ![a clock](c.png) and `code`.
A second line.

Rooms
-----

1. first
2. second
   - inner

| day | hour |
|-----|------|
| Mon | 9    |

```python
x = 1
```

<p align="center">html <b>inside</b></p>

### Deep
"""


def test_markdown():
    content = markdown.read(MARKDOWN)
    assert content.title == "The handbook"
    assert headings(content) == [(1, "Opening hours"), (2, "Rooms"), (3, "Deep")]
    assert content.text == (
        "Opening hours\n\nWe open at nine, see a clock and code.\nA second line.\n\nRooms\n"
        "1. first\n2. second\n- inner\nday | hour\nMon | 9\n\nx = 1\n\nhtml inside\n\nDeep"
    )


def test_the_first_heading_is_the_title_of_markdown():
    assert markdown.read("# A\n\nb").title == "A"
    assert markdown.read("## A\n\nb").title == ""
    assert markdown.read("---\n\nA rule, no settings").text == "A rule, no settings"


# --- reStructuredText and Python


def test_restructured_text():
    text = (
        "=====\nTitle\n=====\n\nIntro.\n\nPart\n----\ntext\n\nInner part\n~~~~~~~~~~\n\n"
        "Next\n----\n\n.. note:: this stays\n\nno heading\nfollows\n\n----\n\nend"
    )
    content = plain.read_restructured(text)
    assert content.title == "Title"
    assert headings(content) == [(1, "Title"), (2, "Part"), (3, "Inner part"), (2, "Next")]
    assert "=====" not in content.text and "~~~" not in content.text
    assert ".. note:: this stays" in content.text and content.text.endswith("----\n\nend")


def test_python_source():
    text = "import x\n\nclass A:\n    def f(self):\n        pass\n\nasync  def g():\n\treturn 1\n"
    content = plain.read_python(text)
    assert content.text == text
    outline = content.metadata["outline"]
    assert [(level, title) for _, level, title in outline] == [(1, "A"), (2, "f"), (1, "g")]
    assert all(title in text[offset:].split("\n")[0] for offset, _, title in outline)


# --- PDF


def make_pdf(pages, title="", encrypt=""):
    """A minimal PDF with one line of text a page ("" = none), written object by object."""
    kids = " ".join(f"{5 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        f"<< /Title ({title}) >>",
    ]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R"
            f" >> >> /Contents {6 + 2 * number} 0 R >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    content, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(content))
        content += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    start = len(content)
    content += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}".encode()
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info 4 0 R {encrypt}>>"
    return content + f"trailer\n{trailer}\nstartxref\n{start}\n%%EOF\n".encode()


def test_pages_of_a_pdf():
    content = pdf.read(make_pdf(["First page.", "", "Third page."], title="A handbook"))
    assert content.title == "A handbook"
    assert content.text == "First page.\n\n\n\nThird page."
    starts = content.metadata["pages"]
    assert starts == [0, 13, 15] and content.text[15:] == "Third page."


def test_a_pdf_without_text_is_empty():
    with pytest.raises(Problem, match="scanned") as caught:
        pdf.read(make_pdf(["", ""]))
    assert caught.value.code == "empty"


def encrypted(password):
    pypdf = pytest.importorskip("pypdf")
    from io import BytesIO

    writer = pypdf.PdfWriter(clone_from=BytesIO(make_pdf(["Secret."])))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    file = BytesIO()
    writer.write(file)
    return file.getvalue()


def test_an_encrypted_pdf():
    assert pdf.read(encrypted("")).text == "Secret."
    with pytest.raises(Problem, match="is encrypted") as caught:
        pdf.read(encrypted("password"))
    assert caught.value.code == "pdf-encrypted"


def test_damaged_pdfs_are_refused_or_read_but_never_crash(caplog):
    whole = make_pdf(["Some text.", "And more."])
    for at in range(0, len(whole), 7):
        for damaged in (whole[:at], whole[:at] + b"\xff\xff" + whole[at + 2 :]):
            try:
                pdf.read(damaged)
            except Problem as problem:
                assert problem.code in ("pdf-broken", "empty", "pdf-encrypted")
    assert not caplog.records
