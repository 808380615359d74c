"""Thirty forms of paths that the demo must not read."""

HOSTILE_PATHS = """
/etc/passwd ///etc/passwd ../etc/passwd ../../../../../../../../etc/passwd ..%2f..%2f..%2fetc%2fpasswd
%2e%2e%2f%2e%2e%2fetc%2fpasswd %252e%252e/%252e%252e/etc/passwd ....//....//etc/passwd ..;/..;/etc/passwd
..\\..\\etc\\passwd ..%5c..%5cetc%5cpasswd %c0%ae%c0%ae/%c0%ae%c0%ae/etc/passwd ..%c0%af..%c0%afetc/passwd
/etc/passwd%00 /etc/passwd%00.png /etc/./passwd ./../../etc/passwd assets/../../../etc/passwd C:\\Windows\\win.ini
\\\\host\\share\\file file:///etc/passwd http://127.0.0.1:22/ http://169.254.169.254/latest/meta-data/
data:text/plain,hello /proc/self/environ /proc/self/cwd/pyproject.toml /dev/zero /root/.ssh/id_rsa
countgen/app/demo/page.py pyproject.toml /tmp/gradio/%2e%2e/%2e%2e/etc/passwd
""".split()
