"""Tells how many notes there are."""

import os

from flask import Flask
from flask_migrate import Migrate
from flask_sqlalchemy import SQLAlchemy

db = SQLAlchemy()


class Note(db.Model):
    """A note."""

    __tablename__ = "notes"
    id = db.Column(db.Integer, primary_key=True)


def create_app():
    """The app."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)
    Migrate(app, db)

    @app.get("/")
    def count():
        return str(db.session.query(Note.id).count())

    return app
