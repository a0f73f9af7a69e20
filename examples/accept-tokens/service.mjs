// A service that accepts tokens of Actas, with nothing but jose: who is it, and who is really there?
//
//   npm install && ACTAS_ISSUER=http://localhost:8080 AUDIENCE=https://billing.example \
//     CLIENT_ID=… CLIENT_SECRET=… node service.mjs

import { createServer } from 'node:http';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const { ACTAS_ISSUER: issuer, AUDIENCE: audience, CLIENT_ID: clientId, CLIENT_SECRET: clientSecret, PORT: port = '0' } = process.env;

// Where the keys are, and where to ask: below the issuer's host, before its path (RFC 8414 §3.1). The issuer must be the one that was meant.
const { origin, pathname } = new URL(issuer);
const metadata = await (await fetch(`${origin}/.well-known/oauth-authorization-server${pathname.replace(/\/$/, '')}`)).json();
if (metadata.issuer !== issuer) throw new Error(`expected the issuer ${issuer}, found ${metadata.issuer}`);
// Asked for anew every minute, so that a retired key goes; and for an unknown key, but not more often than every 5 seconds.
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri), { cacheMaxAge: 60_000, cooldownDuration: 5_000 });

class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    Object.assign(this, { status, code });
  }
}

/** Who calls: `subject`, the user as whom, and `actor`, the administrator who acts as the user, if one does. */
async function authenticate(request) {
  const token = /^Bearer +([\w.~+/-]+=*)$/i.exec(request.headers.authorization ?? '')?.[1];
  if (!token) throw new Refused(401, undefined, 'an access token is needed');
  const claims = await jwtVerify(token, keys, {
    issuer,
    audience, // ours, and nobody else's: a token for another service is not for us to accept
    typ: 'at+jwt', // an access token (RFC 9068), and no other kind of JWT
    algorithms: ['EdDSA', 'RS256'], // never what the token says alone
    clockTolerance: 5, // seconds that two clocks may differ
    requiredClaims: ['sub', 'client_id', 'exp', 'iat', 'jti', 'sid'],
  }).then(({ payload }) => payload, () => { throw new Refused(401, 'invalid_token', 'the access token is not valid'); });
  const { act } = claims;
  const names = (value) => typeof value === 'string' && value !== '';
  if (act !== undefined && !(act !== null && typeof act === 'object' && names(act.sub) && !('act' in act))) {
    throw new Refused(401, 'invalid_token', 'the claim `act` names nobody');
  }
  // A service's own token: `sub` is the client then, and no user.
  if (claims.sub === claims.client_id) throw new Refused(403, 'insufficient_scope', 'this needs a user');
  return { token, subject: claims.sub, actor: act?.sub ?? null };
}

/** Asks Actas whether the token still counts *now*: the signature can't tell that its session was ended (RFC 7662). */
async function demandActive({ token }) {
  const credentials = [clientId, clientSecret].map(encodeURIComponent).join(':');
  const answer = await fetch(metadata.introspection_endpoint, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(credentials).toString('base64')}` },
    body: new URLSearchParams({ token }),
  });
  if (!answer.ok) throw new Refused(503, undefined, 'the token could not be checked');
  const known = await answer.json();
  if (known.active !== true) throw new Refused(401, 'invalid_token', 'the access token is over');
  return known;
}

const routes = {
  // Reading: the signature is enough. A token that was ended goes on until it expires.
  'GET /whoami': async (caller) => ({ subject: caller.subject, actor: caller.actor }),

  // Writing: ask. What is written names both, as the history of Actas does.
  'POST /orders': async (caller) => {
    const { mode } = await demandActive(caller);
    if (mode === 'read_only') throw new Refused(403, undefined, 'this impersonation is read-only');
    return { ordered_by: caller.subject, acting: caller.actor };
  },

  // Only for the user in person.
  'PUT /payment-details': async (caller) => {
    if (caller.actor !== null) throw new Refused(403, undefined, 'not while somebody acts as the user');
    await demandActive(caller);
    return { changed_by: caller.subject };
  },
};

const server = createServer(async (request, response) => {
  response.setHeader('content-type', 'application/json');
  try {
    const route = routes[`${request.method} ${request.url}`];
    if (!route) throw new Refused(404, undefined, 'there is nothing here');
    response.end(JSON.stringify(await route(await authenticate(request))));
  } catch (error) {
    const { status = 500, code, message } = error instanceof Refused ? error : { message: 'something went wrong' };
    response.statusCode = status;
    if (status === 401) response.setHeader('www-authenticate', code ? `Bearer error="${code}"` : 'Bearer');
    response.end(JSON.stringify({ detail: message }));
  }
});
server.listen(Number(port), '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
