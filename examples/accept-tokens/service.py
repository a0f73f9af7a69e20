"""A service that accepts tokens of Actas, with nothing but PyJWT: who is it, and who is really there?

    pip install -r requirements.txt && ACTAS_ISSUER=http://localhost:8080 AUDIENCE=https://billing.example \
        CLIENT_ID=… CLIENT_SECRET=… python3 service.py
"""

import base64
import json
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import Request, urlopen

import jwt

ISSUER, AUDIENCE = os.environ["ACTAS_ISSUER"], os.environ["AUDIENCE"]

# Where the keys are, and where to ask: below the issuer's host, before its path (RFC 8414 §3.1). The issuer must be the one that was meant.
_parts = urlsplit(ISSUER)
_WELL_KNOWN = f"{_parts.scheme}://{_parts.netloc}/.well-known/oauth-authorization-server{_parts.path.rstrip('/')}"
with urlopen(_WELL_KNOWN, timeout=5) as answer:
    METADATA = json.load(answer)
if METADATA["issuer"] != ISSUER:
    raise SystemExit(f"expected the issuer {ISSUER}, found {METADATA['issuer']}")
# Asked for anew every minute, so that a retired key goes; and for an unknown key, but not more often than every 5 seconds.
KEYS = jwt.PyJWKClient(METADATA["jwks_uri"], lifespan=60, cooldown_duration=5)


class Refused(Exception):
    def __init__(self, status, detail, code=None):
        super().__init__(detail)
        self.status, self.detail, self.code = status, detail, code


def authenticate(header):
    """Who calls: `subject`, the user as whom, and `actor`, the administrator who acts as the user, if one does."""
    found = re.fullmatch(r"(?i:Bearer) +([\w.~+/-]+=*)", header or "")
    if not found:
        raise Refused(401, "an access token is needed")
    token = found[1]
    try:
        # An access token (RFC 9068), and no other kind of JWT.
        if jwt.get_unverified_header(token).get("typ", "").lower() not in ("at+jwt", "application/at+jwt"):
            raise jwt.InvalidTokenError("typ")
        key = KEYS.get_signing_key_from_jwt(token)
        claims = jwt.decode(
            token,
            key,
            algorithms=["EdDSA", "RS256"],  # never what the token says alone
            issuer=ISSUER,
            audience=AUDIENCE,  # ours, and nobody else's: a token for another service is not for us to accept
            leeway=5,  # seconds that two clocks may differ
            options={"require": ["sub", "client_id", "exp", "iat", "nbf", "jti", "sid"]},
        )
        # PyJWT takes a time that is written as text, and a token of Actas has none.
        if not all(type(claims[name]) is int for name in ("exp", "iat", "nbf")):
            raise jwt.InvalidTokenError("exp")
    except jwt.PyJWKClientConnectionError as error:
        raise Refused(503, "the token could not be checked") from error
    except (jwt.PyJWTError, AttributeError, ValueError) as error:
        raise Refused(401, "the access token is not valid", "invalid_token") from error
    act = claims.get("act")
    names = isinstance(act, dict) and isinstance(act.get("sub"), str) and act["sub"] and "act" not in act
    if "act" in claims and not names:
        raise Refused(401, "the claim `act` names nobody", "invalid_token")
    # A service's own token: `sub` is the client then, and no user.
    if claims["sub"] == claims["client_id"]:
        raise Refused(403, "this needs a user")
    return {"token": token, "subject": claims["sub"], "actor": act["sub"] if act else None}


def demand_active(caller):
    """Asks Actas whether the token still counts *now*: the signature can't tell that its session was ended (RFC 7662)."""
    credentials = ":".join(quote(os.environ[name], safe="") for name in ("CLIENT_ID", "CLIENT_SECRET"))
    basic = base64.b64encode(credentials.encode()).decode()
    body = urlencode({"token": caller["token"]}).encode()
    request = Request(METADATA["introspection_endpoint"], data=body, headers={"Authorization": f"Basic {basic}"})
    try:
        with urlopen(request, timeout=5) as answer:
            known = json.load(answer)
    except OSError as error:
        raise Refused(503, "the token could not be checked") from error
    if known.get("active") is not True:
        raise Refused(401, "the access token is over", "invalid_token")
    return known


def who_am_i(caller):
    # Reading: the signature is enough. A token that was ended goes on until it expires.
    return {"subject": caller["subject"], "actor": caller["actor"]}


def order(caller):
    # Writing: ask. What is written names both, as the history of Actas does.
    if demand_active(caller).get("mode") == "read_only":
        raise Refused(403, "this impersonation is read-only")
    return {"ordered_by": caller["subject"], "acting": caller["actor"]}


def change_payment_details(caller):
    # Only for the user in person.
    if caller["actor"] is not None:
        raise Refused(403, "not while somebody acts as the user")
    demand_active(caller)
    return {"changed_by": caller["subject"]}


ROUTES = {
    ("GET", "/whoami"): who_am_i,
    ("POST", "/orders"): order,
    ("PUT", "/payment-details"): change_payment_details,
}


class Service(BaseHTTPRequestHandler):
    def answer(self):
        headers, status = {}, 200
        try:
            route = ROUTES.get((self.command, self.path))
            if route is None:
                raise Refused(404, "there is nothing here")
            body = route(authenticate(self.headers.get("Authorization")))
        except Refused as refused:
            status, body = refused.status, {"detail": refused.detail}
            if status == 401:
                headers["WWW-Authenticate"] = f'Bearer error="{refused.code}"' if refused.code else "Bearer"
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(text))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = answer

    def log_message(self, *_):
        """Says nothing: a request's line is no place for what may be a secret."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "0"))), Service)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
