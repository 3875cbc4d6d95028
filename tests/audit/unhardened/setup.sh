# A host as a quick set-up by hand leaves it: Debian's packages as they come, and the app in a plain unit. Nobody should
# copy this; each row of the audit must find what it is for here.
set -eux
site=$1 directory=$2 token=$3
export DEBIAN_FRONTEND=noninteractive PIP_CERT=/etc/ssl/certs/ca-certificates.crt

apt-get -qq update
apt-get -qq -y install nginx certbot python3-venv >/dev/null

# The app, its database, and its secret: in a file, in the unit and in the command line.
mkdir -p /srv/app
tar -C /srv/app -xzf /root/setup/app.tar.gz
printf 'API_TOKEN=%s\n' "$token" >/srv/app/.env
python3 -m venv /srv/app/venv
/srv/app/venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r /root/setup/requirements.txt
(cd /srv/app && venv/bin/alembic upgrade head)
sed "s/@TOKEN@/$token/" /root/setup/app.service >/etc/systemd/system/app.service
cp /root/setup/backup.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now app.service

REQUESTS_CA_BUNDLE=/root/setup/acme-ca.pem certbot certonly --non-interactive --agree-tos --email ops@example.com --server "$directory" \
    --webroot --webroot-path /var/www/html --domain "$site"
sed "s/@SITE@/$site/" /root/setup/nginx-site >/etc/nginx/sites-enabled/app
systemctl reload nginx.service
