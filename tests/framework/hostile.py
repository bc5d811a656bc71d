"""Text that would be more on a page that took it for markup, a link, a script, a style or a terminal's command.

What one of them made would be seen: a script sets `window.ran`, an element carries a mark (`MADE` finds it), a request
goes to the host `evil.example`.
"""

MARKUP = (
    "<script>window.ran=1</script>",
    "</script><script>window.ran=2</script>",
    "<img src=x onerror=window.ran=3>",
    "<svg onload=window.ran=4></svg>",
    "<svg><script href=data:,window.ran=5></script></svg>",
    "<body onload=window.ran=6>",
    "<iframe srcdoc='<script>parent.ran=7</script>'></iframe>",
    "<iframe src=javascript:parent.ran=8></iframe>",
    "<a href=javascript:window.ran=9>here</a>",
    "<details open ontoggle=window.ran=10>d</details>",
    "<input autofocus onfocus=window.ran=11>",
    "<math><mtext><img src=x onerror=window.ran=12></mtext></math>",
    "<object data=data:text/html,x></object>",
    "<embed src=//evil.example/e>",
    "<form action=//evil.example/f><button>go</button></form>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/m'>",
    "<link rel=stylesheet href=//evil.example/l.css>",
    "<style>body{display:none}</style>",
    "<img src=//evil.example/i.png>",
    "<template><b data-hostile>t</b></template>",
    "<b data-hostile>bold</b>",
    "\"><b data-hostile>'attribute",
    "'-window.ran=13-'",
)
TEXT = (
    "javascript:window.ran=14",
    "data:text/html,<script>window.ran=15</script>",
    "[link](javascript:window.ran=16)",
    "[link](data:text/html;base64,PHNjcmlwdD4=)",
    "![picture](//evil.example/p.png)",
    "<javascript:window.ran=17>",
    "[x]: javascript:window.ran=18",
    "&lt;script&gt;window.ran=19&lt;/script&gt;",
    "&#60;img src=x onerror=window.ran=20&#62;",
    "${window.ran=21} {{constructor.constructor('window.ran=22')()}}",
    "\u202egnp.tpircs\u202c \u2066bidi\u2069",
    "expression(window.ran=23); background:url(//evil.example/c)",
    '=HYPERLINK("//evil.example/","formula")',
    "%3Cscript%3Ewindow.ran=24%3C/script%3E",
    "__proto__ constructor prototype",
    "W" * 60 + "<b data-hostile>long",
)
PAYLOADS = MARKUP + TEXT

TERMINAL = (
    "\x1b]0;hostile title\x07\x1b]2;hostile title\x1b\\",
    "\x1b]52;c;aG9zdGlsZQ==\x07",  # into the clipboard: hostile
    "\x1b]8;;javascript:window.ran=30\x1b\\a link\x1b]8;;\x1b\\",
    "\x1b]8;;https://evil.example/\x1b\\another link\x1b]8;;\x1b\\",
    '\x1b[21t\x1b]10;?\x07\x1bP$q"p\x1b\\\x1b[5n',
)

MADE = """() => [
    ...document.querySelectorAll(`
        [data-hostile], base, meta[http-equiv], iframe, object, embed, math, svg script, svg [onload], body[onload],
        script:not([src]), [src*="evil.example"], form[action], link[href*="evil.example"], style,
        a[href^="javascript:" i], a[href^="data:" i], a[href^="//evil"], [onerror], [onload], [ontoggle], [onfocus],
        [style*="evil.example"]
    `),
].filter((element) => element.localName !== "style" || element.nonce === "")
    .map((element) => element.outerHTML.slice(0, 200)).concat(window.ran === undefined ? [] : [`ran ${window.ran}`])"""
"""What of the document, on any page, was made of them: nothing else of the page is found by this."""

WATCH = """document.addEventListener("securitypolicyviolation",
    (event) => window.complain(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`))"""
