/*
 * verify.js
 *	  Checks signatures with the published library "standardwebhooks".
 *
 * Each line of standard input is JSON: secret, headers, body.  Prints "ok", or why
 * not, for each.
 */
const readline = require('readline');
const { Webhook } = require('standardwebhooks');

readline.createInterface({ input: process.stdin }).on('line', (line) => {
	const { secret, headers, body } = JSON.parse(line);

	try {
		new Webhook(secret).verify(body, headers);
		console.log('ok');
	} catch (error) {
		console.log(error.message);
	}
});
