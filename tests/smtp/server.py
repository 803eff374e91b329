"""A mail server on a free port of 127.0.0.1, for tests.

It prints its port, and then each message that it gets as a line of JSON, before it answers.
"""

import argparse
import asyncio
import json
import logging
import ssl
import warnings

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
parser = argparse.ArgumentParser()
parser.add_argument("--tls", action="store_true", help="TLS from the first byte")
parser.add_argument("--starttls", action="store_true")
parser.add_argument("--certificate")
parser.add_argument("--key")
parser.add_argument("--login", help="user:password")
parser.add_argument("--answers", default="250", help="to each message in turn; the last one repeats; 0 is none")
parser.add_argument("--to", default="250", help="the answer to every recipient")
options = parser.parse_args()
answers = [int(answer) for answer in options.answers.split(",")]
context = None
if options.certificate:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.certificate, options.key)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if options.to != "250":
            return f"{options.to} The simulated answer to {address}"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        message = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "hello": session.host_name,
            "tls": options.tls or session.ssl is not None,
            "login": bool(session.authenticated),
            "content": envelope.content.decode("ascii"),
        }
        print(json.dumps(message), flush=True)
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == 0:
            await asyncio.Event().wait()
        return f"{answer} The simulated answer"


def login(server, session, envelope, mechanism, data):
    user, password = options.login.encode().split(b":")
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (user, password)
    return AuthResult(success=right, handled=False)


def session():
    return SMTP(
        Handler(),
        hostname="mail.example.com",
        ident="test",
        tls_context=context if options.starttls else None,
        require_starttls=options.starttls,
        auth_required=options.login is not None,
        authenticator=login if options.login else None,
        auth_require_tls=False,
        timeout=60,
    )


async def serve():
    server = await asyncio.get_running_loop().create_server(
        session, "127.0.0.1", 0, ssl=context if options.tls else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
